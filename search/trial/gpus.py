"""Which GPUs there are, and whether they compute. A child process asks them.

So this process holds no memory of a GPU, and a driver that hangs or crashes costs a time limit, not the search.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

from search.errors import ResourceError

_LIMIT_S, _NEXT_LIMIT_S = 120.0, 30.0
"""Time for all GPUs, and again for those after one that hangs. The first use of one takes seconds: its driver wakes it."""

_PROBE = Path(__file__).with_name("gpu_probe.py")
_DRIVER = Path("/proc/driver/nvidia/version")

_OLDEST_DRIVER = {"11": "450", "12": "525", "13": "580"}
"""By CUDA's major version, the oldest driver that runs it. Source: NVIDIA, CUDA Compatibility, minor version compatibility."""

_NO_GPU = ("", "-1", "NoDevFiles")
"""What CUDA_VISIBLE_DEVICES begins with where it hides all GPUs. The last is Slurm's, for a job without one."""

_LIST = "`nvidia-smi` lists its processes"
_CHOOSE = "pytorch.org/get-started/locally shows the command"

_EXPLANATIONS = (
    (
        "not compiled with CUDA",
        "this PyTorch ({torch}) is a CPU build: it has no CUDA",
        f"install a PyTorch with CUDA ({_CHOOSE})",
    ),
    (
        "driver on your system is too old|driver version is insufficient|driver combination",
        "the NVIDIA driver{driver} is too old for this PyTorch, which was built for CUDA {cuda}{oldest}",
        f"update the driver, or install a PyTorch for an older CUDA ({_CHOOSE})",
    ),
    (
        "no kernel image|not compatible with the current PyTorch",
        "this PyTorch has no code for its architecture {architecture}, only for {architectures}",
        f"install a PyTorch with code for it: an older one for an old GPU, the newest for a new one ({_CHOOSE})",
    ),
    (
        "busy or unavailable|devices are busy",
        "it is busy, or in exclusive mode: another process has it for itself",
        f"end that process ({_LIST}), or wait for it",
    ),
    (
        "CUBLAS_STATUS_NOT_INITIALIZED",
        "cuBLAS does not start, most often because memory is full: {free} of {memory} GiB are free",
        f"end what uses it ({_LIST})",
    ),
    (
        "out of memory|ALLOC_FAILED",
        "its memory is full: {free} of {memory} GiB are free",
        f"end what uses it ({_LIST})",
    ),
    (
        "no NVIDIA driver",
        "no NVIDIA driver was found",
        "install the driver of the GPU, and see that `nvidia-smi` shows it",
    ),
    (
        "No CUDA GPUs are available|no CUDA-capable device|invalid device",
        "CUDA finds none{hidden}",
        "`nvidia-smi -L` lists the GPUs; CUDA_VISIBLE_DEVICES hides all that it does not name",
    ),
    (
        "system not yet initialized",
        "the switch between the GPUs is not ready (CUDA: system not yet initialized)",
        "start NVIDIA's Fabric Manager: `sudo systemctl start nvidia-fabricmanager`",
    ),
    (
        "wrong numbers",
        "a small product comes out wrong on it",
        "it may be damaged: `nvidia-smi -q` shows its errors",
    ),
)
"""What an error says (a regular expression), what that means, and what to do about it."""

_OTHERWISE = "see whether `nvidia-smi` shows it without an error; restarting the machine often helps"


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU, and whether it computes."""

    visible: str
    """Its value for CUDA_VISIBLE_DEVICES: a number, or a name as the user's own value has it. Empty: there is no GPU."""

    name: str = ""
    memory: int = 0
    """Bytes, as are those of `free`."""

    free: int = 0
    architecture: str = ""
    """Such as `sm_90`."""

    driver: str = ""
    """Its version; empty if it is not known."""

    problem: str = ""
    """Why it cannot be used; empty if one small product came out right there."""

    remedy: str = ""
    """What to do about the problem."""

    @property
    def title(self) -> str:
        """How it is called, such as `GPU 0 (NVIDIA H200)`."""
        return f"GPU {self.visible}" + (f" ({self.name})" if self.name else "")


def find_gpus(device: str) -> tuple[Gpu, ...]:
    """All GPUs for `cuda`, one for `cuda:N`; none for the CPU. Without any GPU, a single one that says why."""
    if not device.startswith("cuda"):
        return ()
    _, _, number = device.partition(":")
    first, last = (int(number), int(number)) if number else (0, None)
    if not (torch.version.cuda or torch.cuda.is_available()):
        return (_absent({"torch": torch.__version__, "problem": "not compiled with CUDA"}),)
    build, found = _ask(first, last)
    if not found:
        return (_absent({**build, "problem": build["problem"] or "invalid device"}),)
    visible = visible_gpus(device, build["count"])
    return tuple(_gpu(build, facts, name) for facts, name in zip(found, visible, strict=True))


def require_working(gpus: Sequence[Gpu]) -> None:
    """Refuses GPUs of which one does not compute.

    Raises:
        ResourceError: with what to install or to check.
    """
    broken = [gpu for gpu in gpus if gpu.problem]
    if not broken:
        return
    working = ",".join(gpu.visible for gpu in gpus if not gpu.problem)
    way_out = f"`CUDA_VISIBLE_DEVICES={working}` searches without it" if working else "`--device cpu` trains on the CPU"
    several = len(broken) > 1
    raise ResourceError(
        f"{len(broken)} of {len(gpus)} GPUs do not work" if several else _what(broken[0]),
        got="\n     ".join(f"{gpu.title}: {gpu.problem}" for gpu in broken) if several else broken[0].problem,
        hint=f"{broken[0].remedy}; {way_out}",
    )


def _what(gpu: Gpu) -> str:
    return f"{gpu.title} does not work" if gpu.visible else "there is no GPU that can be used"


def why_not_used() -> str:
    """Why no GPU is used on this machine, which has an NVIDIA driver. Empty without one, and if a person hides the GPUs."""
    if torch.cuda.is_available() or names_gpus() is False or not driver_version():
        return ""
    gpu = find_gpus("cuda")[0]
    return f"{gpu.problem}. For a GPU, {gpu.remedy}" if gpu.problem else ""


def names_gpus() -> bool | None:
    """Whether CUDA_VISIBLE_DEVICES names GPUs or hides them all; None: it is not set."""
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if value is None else value.partition(",")[0].strip() not in _NO_GPU


def visible_gpus(device: str, count: int) -> tuple[str, ...]:
    """Values of CUDA_VISIBLE_DEVICES, one per GPU to use for `device`; none for the CPU.

    `count` is the number of GPUs that this process sees. `cuda` means all of them, `cuda:N` only that one.
    """
    if not device.startswith("cuda"):
        return ()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    visible = [name.strip() for name in named if name.strip()][:count] or [str(number) for number in range(count)]
    _, _, number = device.partition(":")
    return (visible[int(number)],) if number else tuple(visible)


@functools.cache
def driver_version() -> str:
    """Version of the NVIDIA driver; empty if it is not known."""
    with contextlib.suppress(OSError):
        if found := re.search(r"\b\d{3,}\.\d+(?:\.\d+)?\b", _DRIVER.read_text(encoding="utf-8", errors="replace")):
            return found[0]
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, timeout=_NEXT_LIMIT_S, check=True)
        return next(iter(done.stdout.split()), "")
    return ""


def _ask(first: int, last: int | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the probe says of PyTorch's build, and of each GPU. After one that ends or hangs the probe, a new one goes on."""
    build, answers = _run_probe(first, last, _LIMIT_S)
    if not build:
        return {"count": 0, "problem": answers[-1]["problem"]}, []
    end = build["count"] if last is None else min(last + 1, build["count"])
    while first + len(answers) < end:
        answers += _run_probe(first + len(answers), last, _NEXT_LIMIT_S)[1] or [{"problem": "it is no longer there"}]
    return build, answers[: max(end - first, 0)]


def _run_probe(first: int, last: int | None, limit_s: float) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the probe has printed: the build, empty if not even that, and the GPUs. If it was ended, why, as the next GPU's."""
    numbers = [str(number) for number in (first, last) if number is not None]
    command = [sys.executable, "-P", str(_PROBE), *numbers]  # without this folder, whose modules would hide others
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        # In a session of its own: Ctrl-C goes to this process alone.
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
        try:
            code: int | None = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)  # a process that hangs in the driver cannot be ended
        texts = [_text_of(file) for file in (out, err)]
    fate = f"it did not answer for {limit_s:.0f} s" if code is None else _how_it_ended(code, texts[1])
    lines = [line for line in texts[0].splitlines(keepends=True) if line.startswith("{") and line.endswith("\n")]
    build, *answers = [json.loads(line) for line in lines] or [{}]
    return build, [*answers, *([{"problem": fate}] if fate else [])]


def _text_of(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _how_it_ended(code: int, err: str) -> str:
    """Why the probe came to no end; empty if it did."""
    if code == 0:
        return ""
    last_line = next(filter(None, reversed(err.split("\n"))), "no message")
    return f"asking for it ended the process with code {code}: {last_line}"


def _gpu(build: Mapping[str, Any], facts: Mapping[str, Any], visible: str) -> Gpu:
    problem, remedy = _explained(facts["problem"], build, facts)
    known = {name: facts[name] for name in ("name", "memory", "free", "architecture") if name in facts}
    return Gpu(visible=visible, **known, driver=driver_version(), problem=problem, remedy=remedy)


def _absent(build: Mapping[str, Any]) -> Gpu:
    problem, remedy = _explained(build["problem"], build, {})
    return Gpu(visible="", driver=driver_version(), problem=problem, remedy=remedy)


def _explained(error: str, build: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[str, str]:
    """An error in words, and what to do about it. Both empty for no error."""
    if not error:
        return "", ""
    for pattern, problem, remedy in _EXPLANATIONS:
        if re.search(pattern, error, re.IGNORECASE):
            return problem.format(**_words(build, facts)), remedy
    return error[:300], _OTHERWISE


def _words(build: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, str]:
    cuda, driver, hidden = build.get("cuda") or "", driver_version(), os.environ.get("CUDA_VISIBLE_DEVICES")
    oldest = _OLDEST_DRIVER.get(cuda.partition(".")[0])
    return {
        "torch": build.get("torch", ""),
        "cuda": cuda,
        "driver": f" {driver}" if driver else "",
        "oldest": f" and needs driver {oldest} or newer" if oldest else "",
        "architecture": facts.get("architecture", ""),
        "architectures": ", ".join(build.get("architectures", [])) or "others",
        "free": f"{facts.get('free', 0) / 2**30:.1f}",
        "memory": f"{facts.get('memory', 0) / 2**30:.1f}",
        "hidden": "" if hidden is None else f" (CUDA_VISIBLE_DEVICES is `{hidden}`)",
    }
