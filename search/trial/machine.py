"""Device, threads and versions: what determines whether a number can be reproduced bit for bit."""

from __future__ import annotations

import functools
import platform
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from data_utils.wording import counted
from search import __version__
from search.errors import DefinitionError
from search.trial.gpus import driver_version, find_gpus

THREADS = 1
"""CPU threads per worker. With one, results do not depend on the number of workers, and two workers of one thread finish more
trials per hour than one worker of two threads."""

_INSTRUCTIONS = "instructions"
"""Key of `made_with`: the instruction set that PyTorch uses on the CPU. Records of earlier versions do not have it."""

_TF32 = "tf32"
"""Key of `made_with` on CUDA: whether matrix products rounded their factors to TF32. Earlier versions never let them."""

_NEWER = ("architecture", "cuda", "driver")
"""Keys of `made_with` on CUDA that records of earlier versions do not have."""

_WITHOUT_EFFECT = ("optuna", "driver")
"""Keys of `made_with` that change no number: Optuna does not train. A driver runs compiled code as it is; where it compiles
code itself, `architecture` says so."""

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
    if device.type == "cuda" and not count:
        gpu = find_gpus("cuda")[0]
        raise DefinitionError(what, got=gpu.problem, hint=f"{hint}. For a GPU: {gpu.remedy}")
    if device.type == "cuda" and (device.index or 0) >= count:
        raise DefinitionError(what, got=f"CUDA finds {counted(count, 'GPU')} here", hint=hint)
    return requested


def device_kind(device: str) -> str:
    """`cpu` or `cuda`. Which of a machine's GPUs it is does not matter: those of one name compute the same numbers."""
    return device.partition(":")[0]


def made_with(device: str, kernel: str = "", precision: str = "float32") -> dict[str, Any]:
    """Versions and machine, as recorded with trials.

    Args:
        kernel: the compiled kernel that trained them; empty for PyTorch.
        precision: that of the trainings, see `TrainConfig`.
    """
    processor: dict[str, Any]
    if device_kind(device) == "cuda":
        processor = {"processor": torch.cuda.get_device_name(device), "architecture": _architecture(device)}
        processor |= {"cuda": torch.version.cuda or torch.version.hip, "driver": driver_version() or "unknown"}
        processor[_TF32] = precision == _TF32
    else:
        processor = {"processor": _cpu_model(), _INSTRUCTIONS: torch.backends.cpu.get_cpu_capability()}
    packages = {package: version(package) for package in ("torch", "numpy", "optuna", "h5py")}
    return {
        "islr-search": __version__,
        **packages,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": device_kind(device),
        **processor,
        "threads": THREADS,
        **({KERNEL: kernel} if kernel else {}),
    }


def deciding(machine: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `made_with` on which numbers depend."""
    return {name: value for name, value in machine.items() if name not in _WITHOUT_EFFECT}


def machine_differences(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """The differences between a stored `made_with` and that of now on which numbers depend, one line each, by name.

    Earlier versions recorded less: on the CPU the architecture in place of the model, on CUDA the number of the GPU.
    """
    was = {name: device_kind(str(value)) if name == "device" else value for name, value in recorded.items()}
    if was.get("device") == "cuda":
        was = {**{name: here[name] for name in _NEWER if name in here}, _TF32: False, **was}
    elif _INSTRUCTIONS not in was:
        was.pop("processor", None)
    was, now = deciding(was), deciding(here)
    is_same_kind = was.get("device") in (None, now["device"])
    names = sorted(was.keys() | now.keys() if is_same_kind else was.keys() & now.keys())
    pairs = {name: (was.get(name, "not recorded"), now.get(name, "missing")) for name in names}
    return [f"{name}: {old} -> {new}" for name, (old, new) in pairs.items() if old != new]


def as_in_version_0_1(machine: Mapping[str, Any]) -> dict[str, Any]:
    """What version 0.1 recorded of this machine. It did not tell kinds of CPU apart."""
    if _INSTRUCTIONS not in machine:
        return dict(machine)
    known = {name: value for name, value in machine.items() if name != _INSTRUCTIONS}
    return {**known, "processor": platform.processor() or platform.machine()}


def _architecture(device: str) -> str:
    """The architecture of a GPU, such as `sm_90`, and which driver compiles for it if PyTorch brings no code that runs there.

    Code for an architecture runs on those of the same major version that are not older. Source: NVIDIA, CUDA C++ Programming
    Guide, binary compatibility.
    """
    if torch.version.hip:  # AMD's builds of PyTorch bring code for each architecture
        return torch.cuda.get_device_properties(device).gcnArchName
    major, minor = torch.cuda.get_device_capability(device)
    compiled = (re.fullmatch(r"sm_(\d+)(\d)", name) for name in torch.cuda.get_arch_list())
    runs = any(int(one[1]) == major and int(one[2]) <= minor for one in compiled if one is not None)
    return f"sm_{major}{minor}" + ("" if runs else f" (its code was compiled by driver {driver_version()})")


@functools.cache
def _cpu_model() -> str:
    """The CPU's model name. Where the system does not tell, its architecture."""
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), "") or platform.processor() or platform.machine()
