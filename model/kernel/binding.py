"""The functions of the compiled kernel, with types, and with every size checked before the call.

kernel = Kernel(library, model.config, num_words, offsets)
loss = kernel.train(batch, values_W, gradients_W, soft_targets(loss_function, num_words), seed)
logits_BK = kernel.classify(batch, values_W)
"""

# B clips of a batch, M real frames of a batch, N frames to choose from, W floats of the weights' buffer, K words

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data_utils.landmarks import NUM_FEATURES
from model.config import ModelConfig
from model.kernel.library import Library
from model.layers import sinusoids

_LANES = 16
"""Widths must be a multiple of this: LANES of lanes.h."""

_MOST_LAYERS = 32
"""MOST_LAYERS of step.c."""

_ACTIVATIONS = {"relu": 0, "gelu": 1, "silu": 2, "swish": 2}
"""As lanes.h numbers them."""

_DROP_LEVELS = 1 << 16
"""The dropout probability is a multiple of 1 / 65536, as in `model.layers.Dropout`."""


@dataclass(frozen=True)
class KernelBatch:
    """The real frames of some clips, clip by clip."""

    frames_NF: np.ndarray
    """float32 `[N, 260]`: frames to choose from."""

    row_M: np.ndarray
    """int64 `[M]`: row of each frame."""

    position_M: np.ndarray
    """int64 `[M]`: frame number within the clip, from 0."""

    first_B1: np.ndarray
    """int64 `[B + 1]`: index of each clip's first frame, and M. A clip may have none."""

    label_B: np.ndarray
    """int64 `[B]`: class numbers."""


def not_covered(config: ModelConfig) -> str:
    """What the kernel lacks for a model, as text; empty if nothing."""
    if config.pooling != "none":
        return f"pooling {config.pooling}"
    if config.activation not in _ACTIVATIONS:
        return f"activation {config.activation}"
    for name in ("width", "ffn_width"):
        if getattr(config, name) % _LANES:
            return f"{name} {getattr(config, name)}, which is not a multiple of {_LANES}"
    return f"{config.layers} layers" if config.layers > _MOST_LAYERS else ""


class Kernel:
    """The kernel for the weights of one model. Not for several threads at once: calls share a workspace."""

    def __init__(self, library: Library, config: ModelConfig, num_words: int, offsets: Mapping[str, int]) -> None:
        """`offsets`: of each weight in its buffer, by name."""
        assert not not_covered(config), "see `choose_path`"
        self._functions = library.functions
        self._num_words = num_words
        threshold = min(round(config.dropout * _DROP_LEVELS), _DROP_LEVELS - 1)
        self._model = _Model(
            width=config.width,
            heads=config.heads,
            layers=config.layers,
            ffn_width=config.ffn_width,
            inputs=NUM_FEATURES,
            words=num_words,
            norm_first=config.norm_first,
            activation=_ACTIVATIONS[config.activation],
            drop_threshold=threshold,
        )
        self._offsets = np.array([offsets.get(name, -1) for name in _weight_names(config.layers)], np.int64)
        self._positions = sinusoids(1, config.width)
        self._workspace: dict[bool, tuple[int, np.ndarray]] = {}
        for name, result in _RESULTS.items():
            getattr(self._functions, name).restype = result

    def train(self, batch: KernelBatch, values_W: Tensor, gradients_W: Tensor, targets_KK: np.ndarray, seed: int) -> float:
        """The mean loss of a batch, nats. Adds its gradients to `gradients_W`.

        `targets_KK`, float64, are those of `soft_targets`; `seed`, 64 bits, draws the dropout masks.

        Raises:
            MemoryError: there is not enough for the longest clip.
            ValueError: sizes do not fit together.
        """
        workspace = self._prepare(batch, trains=True)
        self._check_weights(values_W, gradients_W)
        self._check_targets(targets_KK)
        loss: float = self._functions.train_batch(
            ctypes.byref(self._model),
            _address(self._offsets),
            _address(values_W),
            _address(gradients_W),
            ctypes.byref(self._batch(batch, targets_KK.ctypes.data, seed)),
            workspace,
        )
        return loss

    def classify(self, batch: KernelBatch, values_W: Tensor) -> Tensor:
        """Logits float32 `[B, K]` of a batch, without dropout.

        Raises: same as `train`.
        """
        workspace = self._prepare(batch, trains=False)
        self._check_weights(values_W)
        logits_BK = torch.empty(len(batch.label_B), self._num_words)
        self._functions.classify_batch(
            ctypes.byref(self._model),
            _address(self._offsets),
            _address(values_W),
            ctypes.byref(self._batch(batch, None, 0)),
            workspace,
            _address(logits_BK),
        )
        return logits_BK

    def loss(self, logits_BK: Tensor, labels_B: Tensor, targets_KK: np.ndarray) -> Tensor:
        """The mean loss of given logits, by the function that `train` calls."""
        self._check_targets(targets_KK)
        losses = [
            self._functions.soft_cross_entropy(
                ctypes.c_int64(self._num_words), _address(logits_K), _address(targets_KK[label]), None
            )
            for logits_K, label in zip(logits_BK.double().contiguous(), labels_B.tolist(), strict=True)
        ]
        return torch.tensor(losses, dtype=torch.float64).mean()

    def _prepare(self, batch: KernelBatch, *, trains: bool) -> ctypes.c_void_p:
        """Checks a batch, and makes sure that positions and workspace suffice for it."""
        _check_batch(batch, self._num_words)
        frames = int(batch.position_M.max(initial=-1)) + 1
        if frames > len(self._positions):
            self._positions = sinusoids(2 * frames, self._model.width)
        longest = int(np.diff(batch.first_B1).max(initial=0))
        known, workspace = self._workspace.get(trains, (-1, np.empty(0, np.uint8)))
        if longest > known:
            size = self._functions.workspace_bytes(ctypes.byref(self._model), ctypes.c_int64(longest), ctypes.c_int64(trains))
            workspace = np.empty(size + 64, np.uint8)  # the system gives memory only where it is used
            self._workspace[trains] = longest, workspace
        return ctypes.c_void_p(-(-workspace.ctypes.data // 64) * 64)

    def _check_weights(self, *buffers_W: Tensor) -> None:
        for buffer in buffers_W:
            if buffer.dtype != torch.float32 or not buffer.is_contiguous() or buffer.device.type != "cpu":
                raise ValueError("the weights are not one float32 buffer on the CPU")
            if len(buffer) <= self._offsets.max():
                raise ValueError("the weights' buffer is too short")

    def _check_targets(self, targets_KK: np.ndarray) -> None:
        words = self._num_words
        if targets_KK.shape != (words, words) or targets_KK.dtype != np.float64 or not targets_KK.flags.c_contiguous:
            raise ValueError(f"targets are not float64 [{words}, {words}] in one piece")

    def _batch(self, batch: KernelBatch, targets: int | None, seed: int) -> _Batch:
        return _Batch(
            clips=len(batch.label_B),
            frames=batch.frames_NF.ctypes.data,
            row_M=batch.row_M.ctypes.data,
            position_M=batch.position_M.ctypes.data,
            first_B1=batch.first_B1.ctypes.data,
            position_table=self._positions.data_ptr(),
            label_B=batch.label_B.ctypes.data,
            target_KK=targets,
            seed=seed,
        )


class _Model(ctypes.Structure):
    """`Model` of step.c."""

    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            "width",
            "heads",
            "layers",
            "ffn_width",
            "inputs",
            "words",
            "norm_first",
            "activation",
            "drop_threshold",
        )
    ]


class _Batch(ctypes.Structure):
    """`Batch` of step.c."""

    _fields_ = [
        ("clips", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("frames", "row_M", "position_M", "first_B1", "position_table", "label_B")),
        ("target_KK", ctypes.c_void_p),
        ("seed", ctypes.c_uint64),
    ]


_RESULTS = {
    "workspace_bytes": ctypes.c_int64,
    "train_batch": ctypes.c_double,
    "classify_batch": None,
    "soft_cross_entropy": ctypes.c_double,
}


def _weight_names(layers: int) -> Iterator[str]:
    """Weights and biases in the order of `weights_at` in step.c."""
    parts = ("attention.qkv", "attention.out", "feed_forward.expand", "feed_forward.contract")
    norms = ("norm_attention", "norm_feed_forward")
    within = [f"layers.{layer}.{part}" for layer in range(layers) for part in (*parts, *norms)]
    for linear in ("embed", *within, "norm_tail", "head"):
        yield from (f"{linear}.weight", f"{linear}.bias")


def _check_batch(batch: KernelBatch, num_words: int) -> None:
    """Raises `ValueError` if the parts of a batch do not fit together: C would read outside of its arrays."""
    indices = (batch.row_M, batch.position_M, batch.first_B1, batch.label_B)
    if any(array.dtype != np.int64 or array.ndim != 1 or not array.flags.c_contiguous for array in indices):
        raise ValueError("indices are not int64 in one piece")
    frames_NF = batch.frames_NF
    if frames_NF.dtype != np.float32 or frames_NF.shape[1:] != (NUM_FEATURES,) or not frames_NF.flags.c_contiguous:
        raise ValueError(f"frames are not float32 [N, {NUM_FEATURES}] in one piece")
    clips, frames, first_B1 = len(batch.label_B), len(batch.row_M), batch.first_B1
    if clips == 0 or len(first_B1) != clips + 1 or len(batch.position_M) != frames:
        raise ValueError("the arrays of a batch have different lengths")
    if first_B1[0] != 0 or first_B1[-1] != frames or (np.diff(first_B1) < 0).any():
        raise ValueError("the clips do not follow one another")
    if batch.label_B.min() < 0 or batch.label_B.max() >= num_words:
        raise ValueError("a label is not a class number")
    if frames and (batch.row_M.min() < 0 or batch.row_M.max() >= len(frames_NF) or batch.position_M.min() < 0):
        raise ValueError("a frame lies outside of the frames")


def _address(array: np.ndarray | Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data if isinstance(array, np.ndarray) else array.data_ptr())
