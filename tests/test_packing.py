"""Blocks instead of padding change neither the function nor its gradients nor ten steps of training."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from data_utils.batches import batch_of, shuffled_batches
from data_utils.prepared import ClipSet, clip_set
from model.config import ModelConfig
from model.device_clips import DeviceClips
from model.layers import Attention, Dropout, EncoderLayer, sinusoids
from model.transformer import TransformerEnISLR

WORDS = 4


def make_set(lengths: list[int], mask: str = "lengths") -> ClipSet:
    """Clips of random numbers; every fifth frame is empty."""
    rng = np.random.default_rng(3)
    clips = [rng.standard_normal((length, 260)).astype(np.float32) for length in lengths]
    for clip in clips:
        clip[4::5] = 0
    return clip_set(clips, rng.integers(0, WORDS, len(lengths)), mask=mask)


def padded_logits(model: TransformerEnISLR, clips: ClipSet, chosen: np.ndarray) -> Tensor:
    """The model's function in a simple implementation: one padded batch, masked scores over all frames."""
    longest = int(clips.lengths_C[chosen].max())
    x_BTF, real_BT = torch.zeros(len(chosen), longest, 260), torch.zeros(len(chosen), longest, dtype=torch.bool)
    for row, clip in enumerate(chosen):
        start, length = clips.starts_C[clip], clips.lengths_C[clip]
        x_BTF[row, :length] = torch.from_numpy(clips.frames_NF[start : start + length])
        real_BT[row, :length] = torch.from_numpy(clips.real_N[start : start + length])
    x_BTF = x_BTF.to(model.head.weight.dtype)
    x = F.relu(model.embed(x_BTF)) + sinusoids(longest, model.config.width).to(x_BTF.dtype)
    for layer in model.layers:
        assert isinstance(layer, EncoderLayer)
        x = x + padded_attention(layer.attention, layer.norm_attention(x), real_BT)
        x = x + layer.feed_forward.contract(F.relu(layer.feed_forward.expand(layer.norm_feed_forward(x))))
    x = model.norm_tail(x)
    weight = real_BT.unsqueeze(2).to(x.dtype)
    return model.head((x * weight).sum(dim=1) / weight.sum(dim=1))


def padded_attention(attention: Attention, x_BTD: Tensor, real_BT: Tensor) -> Tensor:
    """Multi-head attention by einsum with a mask on the keys."""
    q, k, v = (part.unflatten(2, (attention.heads, -1)) for part in attention.qkv(x_BTD).chunk(3, dim=2))
    scores = torch.einsum("bqhe,bkhe->bhqk", q, k) / math.sqrt(q.shape[-1])
    scores = scores.masked_fill(~real_BT[:, None, None, :], -torch.inf)
    return attention.out(torch.einsum("bhqk,bkhe->bqhe", scores.softmax(dim=3), v).flatten(2))


@pytest.mark.parametrize("mask", ["lengths", "detected"])
def test_ten_steps_agree_with_the_padded_computation(mask: str) -> None:
    """Without dropout, ten Adam steps on the same batches give the same losses and weights to 1e-5."""
    clips = make_set([2, 3, 5, 8, 13, 13, 21, 34, 55, 3, 7, 8, 8, 9, 30, 31], mask)
    config = ModelConfig(width=16, ffn_width=32, dropout=0.0)
    ours = TransformerEnISLR(config, WORDS, torch.Generator().manual_seed(1))
    plain = copy.deepcopy(ours)
    labels_C = torch.from_numpy(clips.labels_C)
    held = DeviceClips(clips, torch.device("cpu"))
    # eps: with the default 1e-8 a weight with a gradient of almost 0 moves by lr in a direction that depends on rounding
    optimizers = [torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-4) for model in (ours, plain)]
    rng = np.random.default_rng(0)
    batches = [batch for _ in range(5) for batch in shuffled_batches(clips, 8, rng)]
    assert len(batches) == 10
    for batch in batches:
        losses = [
            F.cross_entropy(ours(*held.take(batch), torch.Generator()), labels_C[batch.clips_B], label_smoothing=0.1),
            F.cross_entropy(padded_logits(plain, clips, batch.clips_B), labels_C[batch.clips_B], label_smoothing=0.1),
        ]
        for optimizer, loss in zip(optimizers, losses, strict=True):
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        assert losses[0].item() == pytest.approx(losses[1].item(), abs=1e-5)
    for (name, one), other in zip(ours.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("p", [0.0, 0.4])
@pytest.mark.parametrize("mask", ["lengths", "detected"])
def test_gradients_of_attention_in_float64(p: float, mask: str) -> None:
    """The hand-written backward pass is the derivative of the forward pass, with dropout and with masked frames."""
    clips = make_set([1, 2, 6, 6, 7], mask)
    layout = DeviceClips(clips, torch.device("cpu")).take(batch_of(clips, np.arange(5)))[1]
    assert any(bias is not None for bias in layout.key_bias)
    attention = Attention(ModelConfig(width=4, heads=2)).double()
    x_MD = torch.randn(len(layout.real_M), 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def mixed(x: Tensor) -> Tensor:
        return attention(x, layout, Dropout(p, torch.Generator().manual_seed(9)))

    assert torch.autograd.gradcheck(mixed, (x_MD.requires_grad_(True),))


def test_gradients_do_not_come_from_pytorchs_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its backward pass adds in random order on CUDA: it is used without gradients only, also for models without dropout."""

    def unwanted(*_: object, **__: object) -> Tensor:
        raise AssertionError("PyTorch's attention")

    monkeypatch.setattr(F, "scaled_dot_product_attention", unwanted)
    clips = make_set([2, 3, 5])
    model = TransformerEnISLR(ModelConfig(width=16, ffn_width=32, dropout=0.0), WORDS, torch.Generator())
    frames_MF, layout = DeviceClips(clips, torch.device("cpu")).take(batch_of(clips, np.arange(3)))
    model(frames_MF, layout, torch.Generator()).sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())
    with torch.no_grad(), pytest.raises(AssertionError, match="PyTorch's attention"):
        model(frames_MF, layout)


def test_mean_of_attention_with_dropout() -> None:
    """Averaged over many draws, attention with dropout equals attention without: weights are dropped and scaled correctly."""
    clips = make_set([3, 9, 9])
    layout = DeviceClips(clips, torch.device("cpu")).take(batch_of(clips, np.arange(3)))[1]
    attention = Attention(ModelConfig(width=8, heads=2))
    x_MD = torch.randn(len(layout.real_M), 8, generator=torch.Generator().manual_seed(0))
    draws = 4000
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():
        plain = attention(x_MD, layout, Dropout(0.0, None))
        runs = torch.stack([attention(x_MD, layout, Dropout(0.3, rng)) for _ in range(draws)])
    error = runs.std(dim=0) / draws**0.5
    assert ((runs.mean(dim=0) - plain).abs() < 6 * error + 1e-6).all()
    weights: list[Tensor] = []
    attention(x_MD, layout, Dropout(0.3, rng), weights)
    dropped = torch.cat([w.flatten() for w in weights]) == 0
    assert 0.15 < dropped.double().mean().item() < 0.45
