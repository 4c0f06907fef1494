"""The one training loop.

training = Training(ModelConfig(), TrainConfig(), train=..., validation=..., num_words=10, seed=0)
fit(training, on_epoch=print)
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_utils.batches import shuffled_batches
from data_utils.prepared import ClipSet
from model.config import ModelConfig, TrainConfig
from model.loss import smoothed_cross_entropy
from model.metrics import measure
from model.record import EpochRecord
from model.transformer import DeviceClips, TransformerEnISLR, logits_of


class Diverged(ArithmeticError):
    """A loss became infinite or NaN."""


class Training:
    """One model in training: weights, optimiser, random generators and the record so far."""

    def __init__(
        self,
        model_config: ModelConfig,
        config: TrainConfig,
        *,
        train: ClipSet,
        validation: ClipSet,
        num_words: int,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        """Draws the starting weights. Same seed, configuration, data and machine: the same numbers, bit for bit on the CPU."""
        self.config = config
        self.device = torch.device(device)
        init_seed, order_seed, dropout_seed = (int(s) for s in np.random.SeedSequence(seed).generate_state(3, np.uint64) >> 1)
        self.model = TransformerEnISLR(model_config, num_words, torch.Generator().manual_seed(init_seed)).to(self.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.lr, fused=True)
        self.order_rng = np.random.default_rng(order_seed)
        self.dropout_rng = torch.Generator(self.device).manual_seed(dropout_seed)
        self.train = DeviceClips(train, self.device)
        self.validation = DeviceClips(validation, self.device, beside=self.train)
        self.history: list[EpochRecord] = []
        self.best_state: dict[str, Tensor] = {}
        """Weights after the epoch with the lowest val_loss so far."""

    @property
    def finished(self) -> bool:
        """Whether all epochs have run."""
        return len(self.history) >= self.config.epochs

    @property
    def best(self) -> EpochRecord:
        """The epoch with the lowest val_loss; the first of equals."""
        return min(self.history, key=lambda record: record.val_loss)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that later epochs depend on, between two epochs: tensors by name, and plain values for JSON."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best_state.items()}
        for number, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in slots.items()}
        tensors["dropout_rng"] = self.dropout_rng.get_state()
        history = [dataclasses.asdict(record) for record in self.history]
        return tensors, {"order_rng": self.order_rng.bit_generator.state, "history": history}

    def set_state(self, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
        """Takes up what `state` gave.

        Raises:
            KeyError, RuntimeError, TypeError, ValueError: it is of another model or another version.
        """
        groups: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
        for name, value in tensors.items():
            group, _, rest = name.partition(".")
            if rest:
                groups[group][rest] = value
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in groups["optimizer"].items():
            number, _, slot = name.partition(".")
            slots.setdefault(int(number), {})[slot] = value
        self.model.load_state_dict(groups["model"])
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": slots})
        self.best_state = {name: value.to(self.device) for name, value in groups["best"].items()}
        self.dropout_rng.set_state(tensors["dropout_rng"])
        self.order_rng.bit_generator.state = plain["order_rng"]
        self.history = [EpochRecord(**record) for record in plain["history"]]

    def run_epoch(self) -> EpochRecord:
        """Trains on every clip once, validates, and adds to the record.

        Raises:
            Diverged: a loss is not finite.
        """
        started = time.perf_counter()
        epoch = len(self.history) + 1
        train_loss = self._train_once()
        if not math.isfinite(train_loss):
            raise Diverged(f"the training loss became {train_loss} in epoch {epoch}")
        metrics = measure(logits_of(self.model, self.validation), torch.from_numpy(self.validation.clips.labels_C))
        if not math.isfinite(metrics.loss):
            raise Diverged(f"the validation loss became {metrics.loss} in epoch {epoch}")
        record = EpochRecord(
            epoch=epoch,
            train_loss=train_loss,
            val_loss=metrics.loss,
            val_top1=metrics.top1,
            val_top5=metrics.top5,
            val_ece=metrics.ece,
            seconds=time.perf_counter() - started,
        )
        self.history.append(record)
        if self.best is record:
            self.best_state = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        return record

    def _train_once(self) -> float:
        clips = self.train.clips
        total = torch.zeros((), dtype=torch.float64, device=self.device)  # stays on the device: no waiting a step
        for batch in shuffled_batches(clips, self.config.batch_size, self.order_rng, self.model.frames_multiple):
            logits_BK = self.model(*self.train.take(batch), self.dropout_rng)
            labels_B = self.train.labels_C[torch.from_numpy(batch.clips_B).to(self.device)]
            loss = smoothed_cross_entropy(logits_BK, labels_B, self.config.label_smoothing)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's stubs leave it untyped
            self.optimizer.step()
            total += loss.detach() * len(batch.clips_B)
        return total.item() / len(clips)


def fit(training: Training, on_epoch: Callable[[EpochRecord], bool] | None = None) -> list[EpochRecord]:
    """Trains until all epochs have run, or until `on_epoch` answers False. Returns every epoch's record.

    Raises:
        Diverged: a loss is not finite.
    """
    while not training.finished:
        record = training.run_epoch()
        if on_epoch is not None and not on_epoch(record):
            break
    return training.history
