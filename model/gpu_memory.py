"""How much of a GPU's memory this process may use."""

from __future__ import annotations

import torch

_CONTEXT = 512 << 20
"""Bytes that each process takes outside PyTorch's allocator, for the CUDA context and the kernels: an estimate."""

_LIMITS: dict[int, int] = {}
"""Bytes that `share_memory` allows this process, by the number of the GPU."""


def share_memory(device: torch.device | str, processes: int) -> None:
    """Limits this process to its share of a GPU that several processes train on. Without effect on the CPU.

    What one of them needs too much is then its own error, and takes nothing from the others.
    """
    device = torch.device(device)
    if device.type != "cuda" or processes < 2:
        return
    index = device.index or 0
    total = torch.cuda.get_device_properties(index).total_memory
    fraction = max(1 / processes - _CONTEXT / total, 0.5 / processes)
    torch.cuda.set_per_process_memory_fraction(fraction, index)
    _LIMITS[index] = int(fraction * total)


def available_memory(device: torch.device) -> int:
    """Bytes that this process can still allocate on a GPU: what is free there, at most the rest of its share."""
    index = device.index or 0
    free, total = torch.cuda.mem_get_info(index)
    used = torch.cuda.memory_allocated(index)
    cached = torch.cuda.memory_reserved(index) - used
    return min(free + cached, _LIMITS.get(index, total) - used)
