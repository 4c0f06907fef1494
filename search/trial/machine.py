"""Device, threads and versions: what determines whether a number can be reproduced bit for bit."""

from __future__ import annotations

import functools
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from search import __version__
from search.errors import DefinitionError

THREADS = 1
"""CPU threads per worker. With one, results do not depend on the number of workers, and two workers of one thread finish more
trials per hour than one worker of two threads."""

_INSTRUCTIONS = "instructions"
"""Key of `made_with`: the instruction set that PyTorch uses on the CPU. Records of earlier versions do not have it."""

KERNEL = "kernel"
"""Key of `made_with`: version, instruction set and origin of the compiled kernel, for trials that it trained."""

_CPU_INFO = Path("/proc/cpuinfo")


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


def made_with(device: str, kernel: str = "") -> dict[str, Any]:
    """Versions and machine, as recorded with trials. `kernel`: the compiled kernel that trained them; empty for PyTorch."""
    if device.startswith("cuda"):
        processor = {"processor": torch.cuda.get_device_name(device)}
    else:
        processor = {"processor": _cpu_model(), _INSTRUCTIONS: torch.backends.cpu.get_cpu_capability()}
    packages = {package: version(package) for package in ("torch", "numpy", "optuna", "h5py")}
    return {
        "islr-search": __version__,
        **packages,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": device,
        **processor,
        "threads": THREADS,
        **({KERNEL: kernel} if kernel else {}),
    }


def comparable(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """What a stored `made_with` says. For the CPU, earlier versions wrote the architecture in place of the model: left out."""
    is_cpu = not str(recorded.get("device")).startswith("cuda")
    unknown = {"processor"} if is_cpu and _INSTRUCTIONS not in recorded else set()
    return {name: value for name, value in recorded.items() if name not in unknown}


def as_in_version_0_1(machine: Mapping[str, Any]) -> dict[str, Any]:
    """What version 0.1 recorded of this machine. It did not tell kinds of CPU apart."""
    if _INSTRUCTIONS not in machine:
        return dict(machine)
    known = {name: value for name, value in machine.items() if name != _INSTRUCTIONS}
    return {**known, "processor": platform.processor() or platform.machine()}


@functools.cache
def _cpu_model() -> str:
    """The CPU's model name. Where the system does not tell, its architecture."""
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), "") or platform.processor() or platform.machine()
