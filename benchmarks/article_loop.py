"""The article's training loop, reimplemented from its description as a baseline for ours. Not used by the tool.

It keeps what makes the article's loop slow: samples are deep-copied on access and loaded by two processes that are restarted
for each loop, a batch is padded to its longest clip, attention is unfused, runs over the padding and stores its weights, NaN is
checked for four times per forward pass, and the test loop takes one clip at a time.
"""

# B clips, T frames of the longest clip, D width, H heads, E = D / H

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from data_utils.prepared import ClipSet
from model.layers import sinusoids


class ClipDataset(Dataset[dict[str, Tensor]]):
    """Clips in memory, `[2, T, 130]` each."""

    def __init__(self, clips: ClipSet) -> None:
        self.samples = []
        for start, length, label in zip(clips.starts_C, clips.lengths_C, clips.labels_C, strict=True):
            frames = np.array(clips.frames_NF[start : start + length])
            self.samples.append({"feature": frames.reshape(length, 2, 130).transpose(1, 0, 2), "token": np.array([label])})

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        sample = copy.deepcopy(self.samples[index])
        return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in sample.items()}


def collate(samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Pads to the longest clip; the mask is derived from the values."""
    longest = max(sample["feature"].shape[1] for sample in samples)
    feature = torch.zeros(len(samples), 2, longest, 130)
    for row, sample in zip(feature, samples, strict=True):
        row[:, : sample["feature"].shape[1]] = sample["feature"]
    token = torch.stack([sample["token"] for sample in samples])
    return {"feature": feature, "token": token, "mask": (feature != 0).any(dim=3).any(dim=1)}


class Attention(nn.Module):
    """Four projections, scores by einsum with the heads last, softmax over an inner axis."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.dropout = nn.Dropout(dropout)
        self.weights: Tensor | None = None

    def forward(self, x_BTD: Tensor, mask_BT: Tensor | None) -> Tensor:
        q, k, v = (layer(x_BTD).unflatten(2, (self.heads, -1)) for layer in (self.query, self.key, self.value))
        scores_BTTH = torch.einsum("bqhe,bkhe->bqkh", q, k) / math.sqrt(q.shape[-1])
        if mask_BT is not None:
            outside = (mask_BT == 0)[:, None, :, None].repeat(1, scores_BTTH.shape[1], 1, self.heads)
            scores_BTTH = scores_BTTH.masked_fill(outside, float(np.finfo(np.float32).min))
        self.weights = self.dropout(torch.softmax(scores_BTTH, dim=2))
        return self.out(torch.einsum("bqkh,bkhe->bqhe", self.weights, v).flatten(2))


class Layer(nn.Module):
    """Pre-LN encoder layer."""

    def __init__(self, width: int, heads: int, ffn_width: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.expand, self.contract = nn.Linear(width, ffn_width), nn.Linear(ffn_width, width)
        self.inner, self.residual = nn.Dropout(dropout), nn.Dropout(dropout)

    def forward(self, x_BTD: Tensor, mask_BT: Tensor | None) -> Tensor:
        x_BTD = x_BTD + self.residual(self.attention(self.norm1(x_BTD), mask_BT))
        inner = self.contract(self.inner(torch.relu(self.expand(self.norm2(x_BTD)))))
        return x_BTD + self.residual(inner)


class ArticleModel(nn.Module):
    """The article's model with its default sizes."""

    def __init__(self, words: int, width: int = 64, dropout: float = 0.1) -> None:
        super().__init__()
        self.embed = nn.Linear(260, width)
        self.register_buffer("positions", sinusoids(5000, width))
        self.dropout = nn.Dropout(dropout)
        first = Layer(width, 2, 256, dropout)
        self.layers = nn.ModuleList([first, copy.deepcopy(first)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, words)
        nn.init.normal_(self.head.weight, std=words**-0.5)

    def forward(self, feature: Tensor, mask_BT: Tensor | None) -> Tensor:
        x_BTD = self.embed(feature.permute(0, 2, 1, 3).flatten(2))
        _refuse_nan(x_BTD)
        x_BTD = torch.relu(x_BTD)
        _refuse_nan(x_BTD)
        x_BTD = self.dropout(x_BTD + self.positions[: x_BTD.shape[1]])
        for layer in self.layers:
            x_BTD = layer(x_BTD, mask_BT)
        x_BTD = self.norm(x_BTD)
        _refuse_nan(x_BTD)
        if mask_BT is None:
            mean_BD = x_BTD.mean(dim=1)
        else:
            weight_BT1 = mask_BT.unsqueeze(2).float()
            mean_BD = (x_BTD * weight_BT1).sum(dim=1) / weight_BT1.sum(dim=1)
        logits = self.head(mean_BD)
        _refuse_nan(x_BTD)
        return logits


def _refuse_nan(x: Tensor) -> None:
    if torch.isnan(x).any():
        raise ValueError("NaN in the activations")


@dataclass(frozen=True)
class Epoch:
    """Metrics and wall times of one epoch."""

    train_loss: float
    val_loss: float
    val_nll: float
    val_top1: float
    seconds: dict[str, float]


class ArticleTraining:
    """The article's train, validation and test loops."""

    def __init__(
        self, train: ClipSet, validation: ClipSet, words: int, *, eps: float = 0.0, dropout: float = 0.1, workers: int = 2
    ) -> None:
        self.model = ArticleModel(words, dropout=dropout)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=3e-4)
        self.loss = nn.CrossEntropyLoss(label_smoothing=eps)
        shared = {"collate_fn": collate, "num_workers": workers}
        held_out = ClipDataset(validation)
        self.train_loader = DataLoader(ClipDataset(train), batch_size=32, shuffle=True, **shared)
        self.val_loader = DataLoader(held_out, batch_size=32, **shared)
        self.test_loader = DataLoader(held_out, batch_size=1, **shared)

    def run_epoch(self, *, test: bool = True) -> Epoch:
        """Trains, validates and tests once."""
        seconds = {}
        start = time.perf_counter()
        train_loss = self._train()
        seconds["train"] = time.perf_counter() - start
        start = time.perf_counter()
        val_loss, val_nll, val_top1 = self._validate()
        seconds["val"] = time.perf_counter() - start
        start = time.perf_counter()
        if test:
            self._test()
        seconds["test"] = time.perf_counter() - start
        return Epoch(train_loss, val_loss, val_nll, val_top1, seconds)

    def _train(self) -> float:
        self.model.train()
        losses = []
        for batch in self.train_loader:
            loss = self.loss(self.model(batch["feature"], batch["mask"]), batch["token"].squeeze(1))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return float(np.mean(losses))

    @torch.no_grad()
    def _validate(self) -> tuple[float, float, float]:
        """The article's mean of batch means, and the plain loss and the accuracy over clips for comparison with ours."""
        self.model.eval()
        losses, logits, tokens = [], [], []
        for batch in self.val_loader:
            scores, token = self.model(batch["feature"], batch["mask"]), batch["token"].squeeze(1)
            losses.append(self.loss(scores, token).item())
            logits.append(scores)
            tokens.append(token)
        scores, token = torch.cat(logits), torch.cat(tokens)
        nll = nn.functional.cross_entropy(scores, token).item()
        return float(np.mean(losses)), nll, (scores.argmax(dim=1) == token).double().mean().item()

    @torch.no_grad()
    def _test(self) -> float:
        self.model.eval()
        correct = sum(
            int((self.model(batch["feature"], None).argmax(dim=1) == batch["token"].squeeze(1)).sum())
            for batch in self.test_loader
        )
        return correct / len(self.test_loader)
