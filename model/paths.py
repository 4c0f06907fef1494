"""The two ways to the gradients of a batch: PyTorch, on any device, and the compiled kernel, on the CPU.

Both draw the same clips in the same order, and the same augmentation; their dropout masks differ. Apart from those, and from
rounding, they compute the same numbers.
"""

# C clips, K words

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from data_utils.ahead import made_ahead
from data_utils.augment import AugmentConfig, augmented_batches
from data_utils.errors import ResourceError
from model.config import ModelConfig, TrainConfig
from model.device_clips import DeviceClips
from model.flat import FlatWeights, flatten_weights
from model.kernel.binding import Kernel, not_covered
from model.kernel.compiling import VERSION
from model.kernel.frames import RealFrames
from model.kernel.library import COST, Library, NoKernel, load_library
from model.layers import Layout
from model.loss import soft_targets
from model.precision import lacks_tf32, use_precision
from model.transformer import TransformerEnISLR, logits_of

Loss = Callable[[Tensor, Tensor], Tensor]
"""Mean loss of logits `[B, K]` and labels `[B]`."""


@dataclass(frozen=True)
class Generators:
    """The random generators of a training."""

    order: np.random.Generator
    augment: np.random.Generator
    dropout: torch.Generator


@dataclass(frozen=True)
class Choice:
    """Which path a training takes."""

    library: Library | None
    """The compiled kernel; None: PyTorch."""

    reason: str = ""
    """Why it is PyTorch; empty if the settings or the device say so."""

    @property
    def kernel(self) -> str:
        """Version, instruction set and origin of the kernel, as recorded with trials; empty for PyTorch."""
        return "" if self.library is None else f"{VERSION} {self.library.instructions}, {self.library.origin}"


def choose_path(model_config: ModelConfig, config: TrainConfig, device: torch.device) -> Choice:
    """The kernel, if the settings allow it, the model is covered and this machine has one.

    Raises:
        DataError: the environment variable SEARCH_KERNEL has an unknown value.
        ResourceError: the settings ask for a precision that this machine does not have.
        ValueError: they ask for one that this model cannot have.
    """
    if config.precision == "tf32":
        if lacks := lacks_tf32(device):
            raise _refused(config.precision, lacks, "an NVIDIA GPU of Ampere or later")
        return Choice(None)
    if config.kernel == "torch" or device.type != "cpu":
        choice = Choice(None)
    elif lacks := not_covered(model_config):
        choice = Choice(None, f"the kernel does not cover {lacks}: trains with PyTorch; {COST}")
    else:
        try:
            choice = Choice(load_library(config.precision))
        except NoKernel as error:
            choice = Choice(None, f"no compiled kernel ({error}): trains with PyTorch; {COST}")
    if config.precision != "float32" and choice.library is None:
        if not_covered(model_config):
            raise ValueError(f"precision {config.precision} cannot be used: {choice.reason}")
        got = choice.reason or f"the device is {device.type}: only the kernel on the CPU has it"
        raise _refused(config.precision, got, "a CPU with AMX")
    return choice


def _refused(precision: str, got: str, expected: str) -> ResourceError:
    what, hint = f"the precision {precision} cannot be used here", "`precision: float32` trains on every machine"
    return ResourceError(what, got=got, expected=expected, hint=hint)


class Path(Protocol):
    """How the gradients of a training are computed."""

    weights: list[Tensor]
    """All weights of the model, or the parts of the buffer that holds them; their `grad` holds the gradients."""

    flat: FlatWeights | None
    """The buffer that holds the weights, if they are in one."""

    def epoch(self, loss: Loss) -> Iterator[tuple[int, Tensor | float]]:
        """Every clip once, by batches: for each its number of clips and mean loss, once its gradients are there."""

    def logits(self, model: TransformerEnISLR, clips: DeviceClips) -> Float[Tensor, "C K"]:
        """Logits of every clip of a set by a model of the same shape, on the CPU."""

    def used_loss(self, loss: Loss) -> Loss:
        """The function by which `epoch` computes this loss, for probing it."""


class TorchPath:
    """Gradients by PyTorch."""

    def __init__(
        self,
        model: TransformerEnISLR,
        train: DeviceClips,
        config: TrainConfig,
        augment: AugmentConfig,
        generators: Generators,
    ) -> None:
        self._model, self._train, self._config, self._augment, self._generators = model, train, config, augment, generators
        self.weights: list[Tensor] = list(model.parameters())
        self.flat: FlatWeights | None = None
        use_precision(config.precision, train.device)

    def batches(self) -> Generator[tuple[Tensor, Layout, Tensor], None, None]:
        """Every clip once, in random order and augmented: frames, layout and labels of each batch, on the device.

        Where augmentation costs time that a GPU would wait for, batches are made ahead in a thread. It ends when this does.
        """
        use_precision(self._config.precision, self._train.device)
        batches = augmented_batches(
            self._train.clips,
            self._config.batch_size,
            self._augment,
            order_rng=self._generators.order,
            augment_rng=self._generators.augment,
            frames_multiple=self._model.frames_multiple,
            rule=self._train.rule,
        )
        if self._train.device.type == "cuda" and not self._augment.is_off:
            batches = made_ahead(batches)
        for batch in batches:
            yield self._train.take_labeled(batch, self._model.config.pooling)

    def epoch(self, loss: Loss) -> Iterator[tuple[int, Tensor | float]]:
        for frames_MF, layout, labels_B in self.batches():
            value = loss(self._model(frames_MF, layout, self._generators.dropout), labels_B)
            for weight in self.weights:
                weight.grad = None
            value.backward()  # type: ignore[no-untyped-call]  # torch's stubs leave it untyped
            yield len(labels_B), value.detach()  # stays on the device: no synchronization per step

    def logits(self, model: TransformerEnISLR, clips: DeviceClips) -> Float[Tensor, "C K"]:
        use_precision(self._config.precision, clips.device)
        return logits_of(model, clips)

    def used_loss(self, loss: Loss) -> Loss:
        return loss


class KernelPath:
    """Gradients by the compiled kernel. The weights of the model move into one buffer."""

    def __init__(
        self,
        library: Library,
        model: TransformerEnISLR,
        train: DeviceClips,
        config: TrainConfig,
        augment: AugmentConfig,
        generators: Generators,
    ) -> None:
        self._config, self._augment, self._generators = config, augment, generators
        self._buffer = flatten_weights(model)
        self.flat: FlatWeights | None = self._buffer
        self.weights: list[Tensor] = list(self._buffer.parts)
        self._kernel = Kernel(library, model.config, model.num_words, self._buffer.offsets)
        self._num_words = model.num_words
        self._frames = RealFrames(train.clips)
        self._seed = torch.empty(1, dtype=torch.int64)
        self._other_W = torch.zeros_like(self._buffer.values_W)
        """The weights of the model that `logits` was last asked about."""

    def epoch(self, loss: Loss) -> Iterator[tuple[int, Tensor | float]]:
        targets_KK = soft_targets(loss, self._num_words)
        batches = self._frames.batches(
            self._config.batch_size,
            self._augment,
            order_rng=self._generators.order,
            augment_rng=self._generators.augment,
        )
        for batch in batches:
            self._seed.random_(-(1 << 63), None, generator=self._generators.dropout)
            self._buffer.gradients_W.zero_()
            seed = int(self._seed.item()) % (1 << 64)
            value = self._kernel.train(batch, self._buffer.values_W, self._buffer.gradients_W, targets_KK, seed)
            yield len(batch.label_B), value

    def logits(self, model: TransformerEnISLR, clips: DeviceClips) -> Float[Tensor, "C K"]:
        for name, weight in model.named_parameters():
            start = self._buffer.offsets[name]
            self._other_W[start : start + weight.numel()] = weight.detach().flatten()
        frames = RealFrames(clips.clips)
        order = frames.by_length(np.arange(len(clips.clips)))
        logits_CK = torch.empty(len(order), model.num_words)
        logits_CK[torch.from_numpy(order)] = self._kernel.classify(frames.batch(order), self._other_W)
        return logits_CK

    def used_loss(self, loss: Loss) -> Loss:
        return functools.partial(self._kernel.loss, targets_KK=soft_targets(loss, self._num_words))
