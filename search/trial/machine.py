"""Where trials train: devices, threads, and what decides whether a number comes back bit for bit."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import torch

from search import __version__
from search.errors import DefinitionError

THREADS = 1
"""CPU threads a worker computes with. One: results do not depend on how many workers share the machine, and two workers of one
thread do more trials an hour than one of two."""


def resolve_device(wish: str) -> str:
    """`auto` becomes CUDA where there is one, else the CPU.

    Raises:
        ValueError: the device does not exist.
    """
    if wish == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wish)
    except RuntimeError as error:
        raise ValueError("expected auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError("expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"there {'is 1 GPU' if torch.cuda.device_count() == 1 else f'are {torch.cuda.device_count()} GPUs'} for CUDA here"
        )
    return wish


def checked_device(wish: str) -> str:
    """The device that is meant.

    Raises:
        DefinitionError: there is no such device.
    """
    try:
        return resolve_device(wish)
    except ValueError as error:
        raise DefinitionError(
            f"the device `{wish}` cannot be used", got=str(error), hint="`--device auto` takes what is there"
        ) from error


def made_with(device: str) -> dict[str, Any]:
    """Versions and machine: what decides whether a number comes back bit for bit."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor() or platform.machine()
    packages = {package: version(package) for package in ("torch", "numpy", "optuna", "h5py")}
    return {
        "islr-search": __version__,
        **packages,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": device,
        "processor": name,
        "threads": THREADS,
    }
