"""The one training loop.

training = Training(ModelConfig(), TrainConfig(), train=..., validation=..., num_words=10, seed=0)
fit(training, on_epoch=print)
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from data_utils.augment import AugmentConfig, augmented_batches
from data_utils.batches import Batch
from data_utils.prepared import ClipSet
from model.config import ModelConfig, TrainConfig
from model.loss import SmoothedLoss, measured_smoothing
from model.metrics import Metrics, measure
from model.objective import Objective, epochs_without_gain
from model.optimizing import average_into, ema_decay, make_optimizer, set_step_size, step_size
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
        augment: AugmentConfig = AugmentConfig(),
        *,
        train: ClipSet,
        validation: ClipSet | None,
        num_words: int,
        seed: int,
        device: torch.device | str = "cpu",
        objective: Objective = Objective(),
        beside: DeviceClips | None = None,
    ) -> None:
        """Draws the starting weights. Same seed, configuration, data and machine: the same numbers, bit for bit on the CPU.

        `objective` decides which epoch's weights are kept. Without validation clips nothing is measured (the record holds NaN),
        patience does not act, and the last epoch's are kept. `beside` lends its frames where the training clips are part of the
        same set, so that several trainings on a GPU hold them once.

        Raises:
            ValueError: there is more label smoothing than the number of words allows.
        """
        self.config, self.augment, self.objective = config, augment, objective
        self.device = torch.device(device)
        self.loss = SmoothedLoss(config.label_smoothing, num_words, config.label_smoothing_over)
        words = np.random.SeedSequence(seed).generate_state(4, np.uint64) >> 1
        init_seed, order_seed, dropout_seed, augment_seed = (int(word) for word in words)
        self.model = TransformerEnISLR(model_config, num_words, torch.Generator().manual_seed(init_seed)).to(self.device)
        self.averaged = copy.deepcopy(self.model).requires_grad_(False) if config.ema > 0 else self.model
        """What is validated and kept: the moving average of the weights, or the model itself where there is none."""

        self.optimizer = make_optimizer(self.model, config)
        self.order_rng = np.random.default_rng(order_seed)
        self.augment_rng = np.random.default_rng(augment_seed)
        self.dropout_rng = torch.Generator(self.device).manual_seed(dropout_seed)
        self.train = DeviceClips(train, self.device, beside=beside)
        self.validation = None if validation is None else DeviceClips(validation, self.device, beside=self.train)
        self.history: list[EpochRecord] = []
        self.best_state: dict[str, Tensor] = {}
        """Weights after the epoch that speaks for the training so far; see `Objective.epoch`."""

    @property
    def finished(self) -> bool:
        """Whether all epochs have run, or patience has run out."""
        out_of_patience = 0 < self.config.patience <= epochs_without_gain(self.history)
        return (out_of_patience and self.validation is not None) or len(self.history) >= self.config.epochs

    @property
    def best(self) -> EpochRecord:
        """The epoch that speaks for the training so far; see `Objective.epoch`."""
        return self.history[-1] if self.validation is None else self.objective.epoch(self.history)

    @property
    def label_smoothing_used(self) -> float:
        """The eps that the loss really uses, found by probing it."""
        return measured_smoothing(self.loss, self.model.num_words, self.config.label_smoothing_over)

    def kept_logits(self) -> Float[Tensor, "C K"]:
        """Logits of the validation clips with the kept weights. There must have been an epoch; the training is not touched."""
        assert self.validation is not None, "there are no validation clips"
        return logits_of(self.kept_model(), self.validation)

    def kept_model(self) -> TransformerEnISLR:
        """A model with the kept weights. There must have been an epoch; the training is not touched."""
        model = copy.deepcopy(self.averaged)
        model.load_state_dict(self.best_state)
        return model

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that later epochs depend on, between two epochs: tensors by name, and plain values for JSON."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best_state.items()}
        if self.averaged is not self.model:
            tensors |= {f"averaged.{name}": value for name, value in self.averaged.state_dict().items()}
        for number, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in slots.items()}
        tensors["dropout_rng"] = self.dropout_rng.get_state()
        plain = {
            "order_rng": self.order_rng.bit_generator.state,
            "augment_rng": self.augment_rng.bit_generator.state,
            "history": [dataclasses.asdict(record) for record in self.history],
        }
        return tensors, plain

    def set_state(self, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
        """Takes up what `state` gave.

        Raises:
            KeyError, RuntimeError, TypeError, ValueError: it is of another model or another version.
        """
        groups: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
        if self.averaged is not self.model:
            groups["averaged"] = {}
        for name, value in tensors.items():
            group, _, rest = name.partition(".")
            if rest:
                groups[group][rest] = value
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in groups["optimizer"].items():
            number, _, slot = name.partition(".")
            slots.setdefault(int(number), {})[slot] = value
        self.model.load_state_dict(groups["model"])
        if self.averaged is not self.model:
            self.averaged.load_state_dict(groups["averaged"])
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": slots})
        self.best_state = {name: value.to(self.device) for name, value in groups["best"].items()}
        self.dropout_rng.set_state(tensors["dropout_rng"])
        self.order_rng.bit_generator.state = plain["order_rng"]
        self.augment_rng.bit_generator.state = plain["augment_rng"]
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
        metrics = self._measured()
        if self.validation is not None and not math.isfinite(metrics.loss):
            raise Diverged(f"the validation loss became {metrics.loss} in epoch {epoch}")
        record = EpochRecord(
            epoch=epoch,
            train_loss=train_loss,
            val_loss=metrics.loss,
            val_top1=metrics.top1,
            val_top5=metrics.top5,
            val_ece=metrics.ece,
            val_ece_mass=metrics.ece_mass,
            val_loss_ts=metrics.loss_ts,
            temperature=metrics.temperature,
            seconds=time.perf_counter() - started,
        )
        self.history.append(record)
        if self.best is record:
            self.best_state = {name: value.detach().clone() for name, value in self.averaged.state_dict().items()}
        return record

    def _measured(self) -> Metrics:
        if self.validation is None:
            return Metrics(**{field.name: math.nan for field in dataclasses.fields(Metrics)})
        return measure(logits_of(self.averaged, self.validation), torch.from_numpy(self.validation.clips.labels_C))

    def _train_once(self) -> float:
        clips = self.train.clips
        total = torch.zeros((), dtype=torch.float64, device=self.device)  # stays on the device: no waiting a step
        for number, batch in enumerate(self._batches()):
            logits_BK = self.model(*self.train.take(batch), self.dropout_rng)
            labels_B = self.train.labels_C[torch.from_numpy(batch.clips_B).to(self.device)]
            loss = self.loss(logits_BK, labels_B)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's stubs leave it untyped
            self._step(number)
            total += loss.detach() * len(batch.clips_B)
        return total.item() / len(clips)

    def _batches(self) -> Iterator[Batch]:
        return augmented_batches(
            self.train.clips,
            self.config.batch_size,
            self.augment,
            order_rng=self.order_rng,
            augment_rng=self.augment_rng,
            frames_multiple=self.model.frames_multiple,
        )

    def _step(self, number: int) -> None:
        """Moves the weights by their gradients, at the step of this number, from 0, in the current epoch."""
        steps_an_epoch = -(-len(self.train.clips) // self.config.batch_size)
        step = len(self.history) * steps_an_epoch + number
        set_step_size(self.optimizer, step_size(self.config, step, steps_an_epoch))
        if self.config.clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimizer.step()
        if self.averaged is not self.model:
            average_into(self.averaged, self.model, ema_decay(self.config.ema, step))


def fit(training: Training, on_epoch: Callable[[EpochRecord], bool] | None = None) -> list[EpochRecord]:
    """Trains until it is finished, or until `on_epoch` answers False. Returns every epoch's record.

    Raises:
        Diverged: a loss is not finite.
    """
    while not training.finished:
        record = training.run_epoch()
        if on_epoch is not None and not on_epoch(record):
            break
    return training.history
