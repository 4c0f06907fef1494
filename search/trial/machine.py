"""Device, threads and versions: what determines whether a number can be reproduced bit for bit."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import torch

from search import __version__
from search.errors import DefinitionError

THREADS = 1
"""CPU threads per worker. With one, results do not depend on the number of workers, and two workers of one thread finish more
trials per hour than one worker of two threads."""


def checked_device(requested: str) -> str:
    """The device to use. `auto` means CUDA if available, else the CPU.

    Raises:
        DefinitionError: there is no such device.
    """
    if requested == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    what, hint = f"the device `{requested}` cannot be used", "`--device auto` uses what is available"
    try:
        device = torch.device(requested)
    except RuntimeError as error:
        raise DefinitionError(what, expected="auto, cpu, cuda or cuda:N", hint=hint) from error
    if device.type not in ("cpu", "cuda"):
        raise DefinitionError(what, expected="auto, cpu, cuda or cuda:N", hint=hint)
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise DefinitionError(what, got=f"CUDA finds {count} GPU{'' if count == 1 else 's'} here", hint=hint)
    return requested


def made_with(device: str) -> dict[str, Any]:
    """Versions and machine, as recorded with trials."""
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
