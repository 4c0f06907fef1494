"""What a worker does with its device besides training: it tries the device before its first job, and gives memory back."""

from __future__ import annotations

import gc

import numpy as np
import torch
from torch import Tensor

from data_utils.errors import ResourceError
from data_utils.landmarks import NUM_FEATURES
from data_utils.prepared import clip_set
from model.config import ModelConfig, TrainConfig
from model.gpu_memory import share_memory
from model.training import Training
from search.trial.machine import THREADS

_SIZE = 64
"""Rows and columns of the product. Its numbers are whole and small: exact in every precision."""


def warm_up(device: str, workers: int = 1) -> None:
    """Computes one small product on the device. A GPU also trains for an epoch, which loads its libraries.

    Args:
        workers: how many processes share the GPU; from now on this one may use its share of the memory.

    Raises:
        ResourceError: the device computes wrong numbers.
        Exception: it cannot compute; `model.device_errors` tells these errors apart from others.
    """
    torch.set_num_threads(THREADS)
    share_memory(device, workers)
    if not torch.equal(_product(device).cpu(), _product("cpu")):
        hint = "restart the machine, or search on another GPU or with `--device cpu`"
        raise ResourceError("a GPU computes wrong numbers", where=device, hint=hint)
    if device != "cpu":
        clips = clip_set([np.ones((4, NUM_FEATURES), np.float32)] * 2, [0, 1])
        small = ModelConfig(width=16, heads=1, layers=1, ffn_width=16)
        Training(small, TrainConfig(epochs=1), train=clips, validation=clips, num_words=2, seed=0, device=device).run_epoch()
        free_memory()


def free_memory() -> None:
    """Gives back what is not used any more, on the GPU too. The error that memory ran out must be gone: it holds tensors."""
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def _product(device: str) -> Tensor:
    factor = torch.arange(_SIZE * _SIZE, dtype=torch.float32, device=device).view(_SIZE, _SIZE) % 7
    return factor @ factor
