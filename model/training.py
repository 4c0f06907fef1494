"""The training loop.

training = Training(ModelConfig(), TrainConfig(), train=..., validation=..., num_words=10, seed=0)
fit(training, on_epoch=print)
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from data_utils.augment import AugmentConfig
from data_utils.prepared import ClipSet
from model.config import ModelConfig, TrainConfig
from model.device_clips import DeviceClips
from model.flat import flatten_weights
from model.loss import SmoothedLoss, measure_smoothing
from model.metrics import Metrics, measure
from model.objective import Objective, epochs_without_improvement
from model.optimizing import Adam, clip_gradients, ema_decay, learning_rate, update_average
from model.paths import Generators, KernelPath, Path, TorchPath, choose_path
from model.record import EpochRecord
from model.transformer import TransformerEnISLR


class Diverged(ArithmeticError):
    """A loss became infinite or NaN."""


@dataclass(frozen=True)
class SharedOrder:
    """An order of the clips, and an augmentation, that trainings share although they did not begin together.

    Those of a training's epoch e, from 0, are drawn from `seed` and `first + e`.
    """

    seed: int
    first: int = 0

    def generator_states(self, epoch: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """The states of the generators for order and augmentation at the start of a training's epoch, from 0."""
        order, augment = (np.random.default_rng((self.seed, self.first + epoch, number)) for number in range(2))
        return dict(order.bit_generator.state), dict(augment.bit_generator.state)


class Training:
    """One model in training: its weights, optimizer, random generators and history."""

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
        order: SharedOrder | None = None,
    ) -> None:
        """Draws the starting weights. The same seed, configuration, data and machine give the same numbers (CPU: bit for bit).

        `objective` decides which epoch's weights are kept. Without validation clips the validation metrics are NaN, patience
        has no effect, and the weights of the last epoch are kept. `order`: instead of an order and an augmentation of this
        training's own.

        Raises:
            ResourceError: this machine does not have the precision.
            ValueError: label smoothing is higher than the number of words allows.
        """
        self.config, self.augment, self.objective, self.order = config, augment, objective, order
        self.device = torch.device(device)
        self.loss = SmoothedLoss(config.label_smoothing, num_words, config.label_smoothing_over)
        seeds = np.random.SeedSequence(seed).generate_state(4, np.uint64) >> 1
        init_seed, order_seed, dropout_seed, augment_seed = map(int, seeds)
        self.model = TransformerEnISLR(model_config, num_words, torch.Generator().manual_seed(init_seed)).to(self.device)
        self.averaged = copy.deepcopy(self.model).requires_grad_(False) if config.ema > 0 else self.model
        """The model that is validated and kept: the moving average of the weights, or without `ema` the model itself."""

        self.generators = Generators(
            np.random.default_rng(order_seed),
            np.random.default_rng(augment_seed),
            torch.Generator(self.device).manual_seed(dropout_seed),
        )
        self.train = DeviceClips(train, self.device)
        self.choice = choose_path(model_config, config, self.device)
        self.path: Path = (
            TorchPath(self.model, self.train, config, augment, self.generators)
            if self.choice.library is None
            else KernelPath(self.choice.library, self.model, self.train, config, augment, self.generators)
        )
        self.optimizer = Adam(self.model, config, self.path.flat)
        flat = self.path.flat is not None and self.averaged is not self.model
        self._averaged_weights = list(flatten_weights(self.averaged).parts if flat else self.averaged.parameters())
        self.validation = None if validation is None else DeviceClips(validation, self.device)
        self.history: list[EpochRecord] = []
        self.stack: int | None = None
        """The width of the stack that trained all epochs so far; 0 if it changed; None if each was trained alone."""

        self.kept_state: dict[str, Tensor] = {}
        """Weights after `kept_epoch`."""

    @property
    def finished(self) -> bool:
        """Whether all epochs are done or patience has run out."""
        out_of_patience = 0 < self.config.patience <= epochs_without_improvement(self.history)
        return (out_of_patience and self.validation is not None) or len(self.history) >= self.config.epochs

    @property
    def clock(self) -> int | None:
        """Which of the shared epochs comes next; None if the training does not share them."""
        return None if self.order is None else self.order.first + len(self.history)

    @property
    def kept_epoch(self) -> EpochRecord:
        """The epoch whose weights are kept so far; see `Objective.kept_epoch`."""
        return self.history[-1] if self.validation is None else self.objective.kept_epoch(self.history)

    @property
    def label_smoothing_used(self) -> float:
        """The eps that the loss function actually uses, measured by calling it."""
        return measure_smoothing(self.path.used_loss(self.loss), self.model.num_words, self.config.label_smoothing_over)

    def kept_logits(self) -> Float[Tensor, "C K"]:
        """Logits of the validation clips with the kept weights. Requires an epoch; does not change the training."""
        assert self.validation is not None, "there are no validation clips"
        return self.path.logits(self.kept_model(), self.validation)

    def kept_model(self) -> TransformerEnISLR:
        """A copy of the model with the kept weights. Requires an epoch; does not change the training."""
        model = copy.deepcopy(self.averaged)
        model.load_state_dict(self.kept_state)
        return model

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that later epochs depend on, between two epochs: tensors by name, and plain values for JSON."""
        groups = {"model": self.model.state_dict(), "best": self.kept_state}
        if self.averaged is not self.model:
            groups["averaged"] = self.averaged.state_dict()
        groups |= {f"optimizer.{number}": slots for number, slots in self.optimizer.state().items()}
        tensors = {f"{group}.{name}": value for group, values in groups.items() for name, value in values.items()}
        tensors["dropout_rng"] = self.generators.dropout.get_state()
        plain = {
            "order_rng": self.generators.order.bit_generator.state,
            "augment_rng": self.generators.augment.bit_generator.state,
            "history": [dataclasses.asdict(record) for record in self.history],
            **({} if self.order is None else {"order": dataclasses.asdict(self.order)}),
            **({} if self.stack is None else {"stack": self.stack}),
        }
        return tensors, plain

    def set_state(self, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
        """Restores what `state` returned. Where the shared order began is restored as well.

        Raises:
            KeyError, RuntimeError, TypeError, ValueError: the state is of another model or another version.
        """
        order = SharedOrder(**plain["order"]) if "order" in plain else None
        if (order is None) != (self.order is None) or (order and self.order and order.seed != self.order.seed):
            raise ValueError("it trained on the clips in another order")
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
        self.optimizer.set_state(slots)
        self.kept_state = {name: value.to(self.device) for name, value in groups["best"].items()}
        self.generators.dropout.set_state(tensors["dropout_rng"])
        self.generators.order.bit_generator.state = plain["order_rng"]
        self.generators.augment.bit_generator.state = plain["augment_rng"]
        self.history = [EpochRecord(**record) for record in plain["history"]]
        self.order, self.stack = order, plain.get("stack")

    def run_epoch(self) -> EpochRecord:
        """Trains on every clip once, validates, and adds the epoch to the history.

        Raises:
            Diverged: a loss is not finite.
        """
        start = time.perf_counter()
        self.begin_epoch()
        train_loss = self.checked_train_loss(self._train_epoch())
        metrics = self._validate()
        record = self.next_record(train_loss, metrics, time.perf_counter() - start)
        self.add_epoch(record, stack=None, kept=copied(self.averaged.state_dict()) if self.would_keep(record) else None)
        return record

    def begin_epoch(self) -> None:
        """Sets the generators of a shared order for the next epoch."""
        if self.order is not None:
            order, augment = self.order.generator_states(len(self.history))
            self.generators.order.bit_generator.state = order
            self.generators.augment.bit_generator.state = augment

    def checked_train_loss(self, train_loss: float) -> float:
        """The training loss of the next epoch.

        Raises:
            Diverged: it is not finite.
        """
        if not math.isfinite(train_loss):
            raise Diverged(f"the training loss became {train_loss} in epoch {len(self.history) + 1}")
        return train_loss

    def next_record(self, train_loss: float, metrics: Metrics, seconds: float) -> EpochRecord:
        """The record of an epoch that follows the history.

        Raises:
            Diverged: the validation loss is not finite.
        """
        epoch = len(self.history) + 1
        if self.validation is not None and not math.isfinite(metrics.loss):
            raise Diverged(f"the validation loss became {metrics.loss} in epoch {epoch}")
        values = {f"val_{name}": value for name, value in dataclasses.asdict(metrics).items() if name != "temperature"}
        return EpochRecord(epoch=epoch, train_loss=train_loss, temperature=metrics.temperature, seconds=seconds, **values)

    def would_keep(self, record: EpochRecord) -> bool:
        """Whether the weights of a next epoch with this record are kept."""
        return self.validation is None or self.objective.kept_epoch([*self.history, record]) is record

    def add_epoch(self, record: EpochRecord, stack: int | None, kept: dict[str, Tensor] | None) -> None:
        """Adds an epoch that the weights were trained for. `stack`: the width of its stack; `kept`: its weights, if kept."""
        self.stack = stack if not self.history or stack == self.stack else 0
        self.history.append(record)
        if kept is not None:
            self.kept_state = kept

    @staticmethod
    def no_metrics() -> Metrics:
        """The validation metrics without validation clips."""
        return Metrics(**{field.name: math.nan for field in dataclasses.fields(Metrics)})

    def _validate(self) -> Metrics:
        if self.validation is None:
            return self.no_metrics()
        return measure(self.path.logits(self.averaged, self.validation), torch.from_numpy(self.validation.clips.labels_C))

    def _train_epoch(self) -> float:
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for number, (clips, loss) in enumerate(self.path.epoch(self.loss)):
            self._step(number)
            total += loss * clips
        return total.item() / len(self.train.clips)

    def _step(self, number: int) -> None:
        """Updates the weights from their gradients. `number` is the step within the current epoch, counted from 0."""
        steps_per_epoch = -(-len(self.train.clips) // self.config.batch_size)
        step = len(self.history) * steps_per_epoch + number
        if self.config.clip_norm > 0:
            clip_gradients(self.path.weights, self.config.clip_norm)
        self.optimizer.step(learning_rate(self.config, step, steps_per_epoch))
        if self.averaged is not self.model:
            update_average(self._averaged_weights, self.path.weights, ema_decay(self.config.ema, step))


def copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A copy of weights, by name."""
    return {name: value.detach().clone() for name, value in state.items()}


def fit(
    training: Training,
    on_epoch: Callable[[EpochRecord], bool] | None = None,
    run_epoch: Callable[[Training], EpochRecord] = Training.run_epoch,
) -> list[EpochRecord]:
    """Trains by `run_epoch` until the training is finished or `on_epoch` returns False. Returns the history.

    Raises:
        Diverged: a loss is not finite.
    """
    while not training.finished:
        record = run_epoch(training)
        if on_epoch is not None and not on_epoch(record):
            break
    return training.history
