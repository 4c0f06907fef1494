"""A CUDA device that is not there: tensors say `cuda:0`, hold memory of the CPU, and are as strict as on a GPU.

    with pretended_gpu() as gpu:                      # in this process, and in threads that it starts from now on
        torch.ones(3, device="cuda").sum().item()
    assert gpu.counts.launches.total() == 2 and gpu.counts.waits.total() == 1

    run_cli("run", ..., cwd=place, env=pretended_environment(gpus=2))    # in child processes and in theirs

Tensors of two devices do not mix, generators draw for their own device, memory ends. Launches, copies and waits are counted,
failures can be asked for. Numbers are those of the CPU, bit for bit; time means nothing.
"""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
import json
import os
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pretended_tensor
import torch
from pretended_modes import PretendedGenerator, modes

ROOT = Path(__file__).parents[1]
VARIABLE = "PRETENDED_GPU"
"""The environment variable that describes the machine to child processes, as JSON."""

_OURS = ("search", "model", "data_utils", "benchmarks", "tests")
OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate {:.2f} MiB. GPU 0 has a total capacity of {:.2f} MiB of which {:.2f} MiB is free."
)


@dataclass(frozen=True)
class Failure:
    """What goes wrong on the device, and when."""

    text: str
    error: str = "RuntimeError"
    """The exception's name, in `torch` or among Python's own."""

    of: Literal["launch", "product", "allocation", "copy"] = "launch"
    at: int = 1
    """The first that fails, from 1, in each process. Of allocations: those of more bytes than this fail, all of them."""

    always: bool = False
    """Every later one fails too."""

    gpu: str = ""
    """Only on this GPU, as `CUDA_VISIBLE_DEVICES` names it; empty: on each."""

    once: str = ""
    """A file that is made when it fails, and after which it does not fail again: neither here nor in another process."""

    def strike(self, of: str, number: int, gpu: str) -> None:
        """Raises the exception if its time has come."""
        due = number > self.at if of == "allocation" or self.always else number == self.at
        due |= number == self.at and of != "allocation"
        if of != self.of or not due or self.gpu not in ("", gpu):
            return
        if self.once:
            try:
                Path(self.once).touch(exist_ok=False)
            except FileExistsError:
                return
        raise (getattr(torch, self.error, None) or getattr(builtins, self.error))(self.text)


@dataclass
class Counts:
    """What was asked of the device."""

    launches: Counter[str] = field(default_factory=Counter)
    """Operators that start a kernel, by name. One that starts several, as `_foreach_add_`, counts once."""

    bytes_moved: int = 0
    """Bytes that the operators read and write."""

    flop: int = 0
    """Multiplications and additions of the matrix products."""

    to_device: int = 0
    to_host: int = 0
    bytes_copied: int = 0
    """Copies between host and GPU, and their bytes."""

    waits: Counter[str] = field(default_factory=Counter)
    """How often the host waited for the GPU, by reason and the place in this project."""


@dataclass
class PretendedGpu:
    """The machine's GPUs, which are alike. Counts and memory are of this process."""

    gpus: int = 1
    name: str = "Pretended GPU"
    """Of each; `{}` in it is the GPU's number."""

    memory: int = 16 << 30
    """Bytes of one GPU."""

    free: int | None = None
    """Bytes that other processes leave free; None: all."""

    failures: Sequence[Failure] = ()
    counts: Counts = field(default_factory=Counts)
    allocated: int = 0
    peak: int = 0
    fraction: float = 1.0
    """Share of the memory that this process may have."""

    _seen: Counter[str] = field(default_factory=Counter)
    _lock: Any = field(default_factory=threading.RLock)

    @contextlib.contextmanager
    def counting(self) -> Iterator[Counts]:
        """Counts what happens inside, and only that."""
        before, self.counts = self.counts, Counts()
        try:
            yield self.counts
        finally:
            self.counts = before

    @property
    def visible(self) -> list[str]:
        """The GPUs that this process sees: those named, up to the first that does not exist."""
        found = []
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        for name in map(str, range(self.gpus)) if named is None else named.split(","):
            if not name.strip().isdigit() or int(name) >= self.gpus:
                break
            found.append(name.strip())
        return found

    @property
    def left(self) -> int:
        """Bytes that this process can still allocate."""
        return min(self.memory if self.free is None else self.free, int(self.fraction * self.memory)) - self.allocated

    def checked(self, device: Any) -> int | None:
        """The number of a CUDA device; None for another device. Raises what CUDA raises."""
        device = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
        if device.type != "cuda":
            return None
        if not self.visible:
            raise RuntimeError("No CUDA GPUs are available")
        if (device.index or 0) >= len(self.visible):
            raise torch.AcceleratorError("CUDA error: invalid device ordinal")
        return device.index or 0

    def happens(self, of: str, index: int, amount: int | None = None) -> None:
        """Fails if a failure is due."""
        with self._lock:
            self._seen[of] += 1
            number = self._seen[of] if amount is None else amount
        for failure in self.failures:
            failure.strike(of, number, self.visible[index])

    def launched(self, name: str, moved: int, flop: int) -> None:
        with self._lock:
            self.counts.launches[name] += 1
            self.counts.bytes_moved += moved
            self.counts.flop += flop

    def copied(self, size: int, *, to_device: bool) -> None:
        with self._lock:
            self.counts.bytes_copied += size
            self.counts.to_device += to_device
            self.counts.to_host += not to_device

    def waits(self, why: str) -> None:
        with self._lock:
            self.counts.waits[f"{why}: {_place()}"] += 1

    def hold(self, tensor: torch.Tensor, index: int) -> None:
        """Takes memory for a tensor until nothing refers to it."""
        storage = tensor.untyped_storage()
        if getattr(storage, "pretended", False):
            return
        self.happens("allocation", index, storage.nbytes())
        size = -(-storage.nbytes() // 512) * 512  # as PyTorch's allocator rounds
        if size > self.left:
            raise torch.OutOfMemoryError(OUT_OF_MEMORY.format(*(n / 2**20 for n in (size, self.memory, self.left))))
        storage.pretended = True
        self._take(size)
        weakref.finalize(storage, self._take, -size)

    def _take(self, size: int) -> None:
        with self._lock:
            self.allocated += size
            self.peak = max(self.peak, self.allocated)


def _place() -> str:
    """The innermost line of this project that is at work, without these files."""
    frame = sys._getframe(1)
    while frame is not None:
        *folders, name = Path(frame.f_code.co_filename).parts
        starts = [number for number, folder in enumerate(folders) if folder in _OURS]
        if starts and "site-packages" not in folders and not name.startswith("pretended_"):
            return f"{'/'.join([*folders[starts[-1] :], name])}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


def _reset_peak(gpu: PretendedGpu) -> None:
    gpu.peak = gpu.allocated


def _replacements(gpu: PretendedGpu) -> dict[tuple[Any, str], Any]:
    """What this process calls instead of PyTorch's own."""

    def properties(device: Any = 0) -> SimpleNamespace:
        index = gpu.checked("cuda" if device is None else device) or 0
        name = gpu.name.format(gpu.visible[index])
        return SimpleNamespace(name=name, total_memory=gpu.memory, major=9, minor=0, multi_processor_count=132)

    cuda: dict[str, Callable[..., Any]] = {
        "_lazy_init": lambda: gpu.checked("cuda"),
        "init": lambda: gpu.checked("cuda"),
        "is_initialized": lambda: True,
        "is_available": lambda: bool(gpu.visible),
        "device_count": lambda: len(gpu.visible),
        "current_device": lambda: gpu.checked("cuda"),
        "set_device": gpu.checked,
        "get_device_name": lambda device=None: properties(device).name,
        "get_device_properties": properties,
        "get_device_capability": lambda device=None: (9, 0),
        "get_arch_list": lambda: ["sm_90"],
        "mem_get_info": lambda device=None: ((gpu.memory if gpu.free is None else gpu.free) - gpu.allocated, gpu.memory),
        "memory_allocated": lambda device=None: gpu.allocated,
        "memory_reserved": lambda device=None: gpu.allocated,
        "max_memory_allocated": lambda device=None: gpu.peak,
        "max_memory_reserved": lambda device=None: gpu.peak,
        "reset_peak_memory_stats": lambda device=None: _reset_peak(gpu),
        "set_per_process_memory_fraction": lambda share, device=None: setattr(gpu, "fraction", share),
        "empty_cache": lambda: None,
        "synchronize": lambda device=None: gpu.waits("synchronize"),
        "manual_seed_all": lambda seed: None,
    }
    clip = torch.nn.utils.clip_grad
    return {
        **{(torch.cuda, name): value for name, value in cuda.items()},
        (torch, "Generator"): PretendedGenerator,
        (torch.version, "cuda"): "13.0",
        (torch.backends.cuda, "is_built"): lambda: True,
        (torch._C, "_cuda_getDriverVersion"): lambda: 13000,
        (clip, "_has_foreach_support"): lambda tensors, device: True,  # it would ask about the device `meta`
        (threading.Thread, "start"): _start_with_gpu,
    }


_start = threading.Thread.start


def _start_with_gpu(thread: threading.Thread) -> None:
    """Starts a thread that has the GPU too: PyTorch's modes are each thread's own."""
    run = thread.run

    def with_gpu() -> None:
        with modes():
            run()

    thread.run = with_gpu  # type: ignore[method-assign]
    _start(thread)


@contextlib.contextmanager
def pretended_gpu(gpu: PretendedGpu | None = None, **settings: Any) -> Iterator[PretendedGpu]:
    """This process, and those that it starts, have the GPUs of a machine with these `PretendedGpu` settings."""
    gpu = gpu or PretendedGpu(**settings)
    variables = {name: os.environ.get(name) for name in (VARIABLE, "PYTHONPATH")}
    os.environ.update(_environment(gpu))
    before = {(owner, name): getattr(owner, name, None) for owner, name in _replacements(gpu)}
    pretended_tensor.machine.append(gpu)
    try:
        for (owner, name), value in _replacements(gpu).items():
            setattr(owner, name, value)
        with modes():
            yield gpu
    finally:
        for (owner, name), value in before.items():
            setattr(owner, name, value)
        pretended_tensor.machine.pop()
        for variable, text in variables.items():
            os.environ.pop(variable)
            os.environ.update({} if text is None else {variable: text})


def pretended_environment(**settings: Any) -> dict[str, str]:
    """Environment variables with which a command and its workers run on a machine with these `PretendedGpu` settings."""
    return _environment(PretendedGpu(**settings))


def _environment(gpu: PretendedGpu) -> dict[str, str]:
    told = {name: getattr(gpu, name) for name in ("gpus", "name", "memory", "free")}
    told["failures"] = [dataclasses.asdict(failure) for failure in gpu.failures]
    folders = [str(Path(__file__).parent / "pretended_machine"), str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {VARIABLE: json.dumps(told), "PYTHONPATH": os.pathsep.join(dict.fromkeys(filter(None, folders)))}


def install_from_environment() -> None:
    """From now on this process has the GPUs that `pretended_environment` described."""
    told = json.loads(os.environ[VARIABLE])
    failures = [Failure(**failure) for failure in told.pop("failures")]
    held = pretended_gpu(**told, failures=failures)
    held.__enter__()
    _installed.append(held)


_installed: list[Any] = []
