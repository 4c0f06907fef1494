"""The compiled kernel for this machine: the library that the wheel brings, else one that is built here once.

A library that was built lies in the user's cache. Its name holds the digest of sources, flags and compiler, and the digest of
its own content: what was cut short or changed is not loaded, but built again.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_utils.errors import DataError
from data_utils.files import user_cache, write_atomically
from model.kernel import compiling
from model.kernel.compiling import MACHINE, SYSTEM, Compiler, CompilerError

Precision = Literal["float32", "bf16"]

COST = "training takes about four times as long"
"""What it costs to train without the kernel."""

_CPU_INFO = Path("/proc/cpuinfo")
# Levels 3 and 4 of the x86-64 psABI, in the words of Linux
_X86_64_V3 = frozenset(("avx2", "fma", "f16c", "bmi1", "bmi2", "abm", "movbe"))
_X86_64_V4 = _X86_64_V3 | {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"}
_AMX = _X86_64_V4 | {"avx512_bf16", "amx_tile", "amx_bf16"}


class NoKernel(Exception):
    """There is no compiled kernel for this machine. The text is the reason."""


@dataclass(frozen=True)
class Library:
    """A loaded library."""

    functions: ctypes.CDLL
    instructions: str
    """Instruction set: "avx2", "avx512", "neon" or "amx"."""

    origin: str
    """"prebuilt", or the compiler: "built with gcc 12.2.0"."""


def load_library(precision: Precision = "float32") -> Library:
    """The kernel for this machine, loaded once per process; built before that if it has to be.

    Raises:
        NoKernel: the user switched it off, or this machine has none and cannot build one.
        DataError: the environment variable SEARCH_KERNEL has an unknown value.
    """
    chosen = os.environ.get("SEARCH_KERNEL", "")
    if chosen not in ("", "on", "off"):
        raise DataError("SEARCH_KERNEL has an unknown value", got=chosen, expected="on or off", hint="unset SEARCH_KERNEL")
    if chosen == "off":
        raise NoKernel("SEARCH_KERNEL=off")
    loaded = _load(precision)
    if isinstance(loaded, str):
        raise NoKernel(loaded)
    return loaded


@functools.cache
def _load(precision: Precision) -> Library | str:
    """The library, or the reason why there is none."""
    try:
        instructions = instructions_of_cpu(precision)
        library = _prebuilt(instructions) or _built(instructions)
        if not library.functions.is_permitted():
            raise NoKernel("the system does not let this process use AMX")
        return library
    except NoKernel as error:
        return str(error)


def instructions_of_cpu(precision: Precision = "float32") -> str:
    """The best instruction set of this CPU that the kernel is written for.

    Raises:
        NoKernel: there is none.
    """
    if precision == "bf16":
        if SYSTEM == "linux" and MACHINE == "x86_64" and _cpu_flags() >= _AMX:
            return "amx"
        raise NoKernel("this CPU has no AMX, which bf16 needs")
    if MACHINE == "aarch64":
        return "neon"
    if MACHINE != "x86_64":
        raise NoKernel(f"the kernel is not written for CPUs of the kind {MACHINE}")
    flags = _cpu_flags()
    if flags >= _X86_64_V4:
        return "avx512"
    if flags >= _X86_64_V3:
        return "avx2"
    raise NoKernel("this CPU has no AVX2")


def build(instructions: str, compiler: Compiler) -> Library:
    """The library of an instruction set by a compiler: from the user's cache if it was built before, else built now.

    Processes that start at once build it once. Where the cache cannot be written, each process builds its own.

    Raises:
        NoKernel: the compiler failed, or the library cannot be loaded.
    """
    made_of = (compiling.sources_digest(), compiling.flags(instructions, compiler), compiler.command, compiler.version)
    key = f"{instructions}-{_digest(repr(made_of).encode())}"
    origin = f"built with {compiler.name}"
    try:
        try:
            functions = _from_cache(user_cache("kernel"), key, instructions, compiler)
        except (OSError, RuntimeError):  # it cannot be written, knows no locks, is locked for too long, or there is no home
            functions = _from_cache(_own_folder(), key, instructions, compiler)
    except (CompilerError, OSError) as error:
        raise NoKernel(str(error)) from error
    return Library(functions, instructions, origin)


def _prebuilt(instructions: str) -> Library | None:
    """The library that the wheel brings for this machine; None if there is none that works."""
    path = compiling.PREBUILT / compiling.prebuilt_name(SYSTEM, MACHINE, instructions, compiling.sources_digest())
    functions = _opened(path) if path.exists() else None
    return None if functions is None else Library(functions, instructions, "prebuilt")


def _built(instructions: str) -> Library:
    """The library by the first compiler that can build it."""
    reasons = []
    try:
        for compiler in compiling.find_compilers():
            try:
                return build(instructions, compiler)
            except NoKernel as error:
                reasons.append(str(error))
    except CompilerError as error:
        reasons.append(str(error))
    raise NoKernel(reasons[0] if reasons else "there is no C compiler; `pip install ziglang` brings one")


def _from_cache(folder: Path, key: str, instructions: str, compiler: Compiler) -> ctypes.CDLL:
    """The library from a folder, built first if it is not there."""
    functions = _stored(folder, key) if _is_private(folder) else None
    if functions is not None:
        return functions
    import filelock  # here: most workers find a library

    _make_private(folder)
    with filelock.FileLock(folder / f"{key}.lock", timeout=compiling.TIME_LIMIT_S):
        functions = _stored(folder, key)  # another process may have built it while this one waited
        if functions is None:
            _store(folder, key, instructions, compiler)
            functions = _stored(folder, key)
    if functions is None:
        raise OSError(f"the library that {compiler.name} built cannot be loaded from {folder}")  # such as one without `exec`
    return functions


def _make_private(folder: Path) -> None:
    """Creates a folder that only this user can write. Raises `OSError` if it is another user's or others can write it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    if not _is_private(folder):
        raise PermissionError(f"other users can write {folder}")


def _is_private(folder: Path) -> bool:
    if os.name == "nt":
        return True
    try:
        about = folder.stat()
    except OSError:
        return False
    return about.st_uid == os.getuid() and not about.st_mode & 0o022


def _stored(folder: Path, key: str) -> ctypes.CDLL | None:
    """The library of this key in a folder, loaded; None if there is none that is whole and works."""
    for path in folder.glob(f"{key}-*{compiling.library_suffix(SYSTEM)}"):
        if path.stem == f"{key}-{_digest(path.read_bytes())}" and (functions := _opened(path)) is not None:
            return functions
    return None


def _store(folder: Path, key: str, instructions: str, compiler: Compiler) -> None:
    """Builds a library into a folder, in place of those of this key that do not work."""
    suffix = compiling.library_suffix(SYSTEM)
    with tempfile.TemporaryDirectory(prefix="islr-search-", ignore_cleanup_errors=True) as place:
        result = Path(place, f"kernel{suffix}")
        compiling.compile_library(instructions, compiler, result)
        content = result.read_bytes()
    for damaged in folder.glob(f"{key}-*{suffix}"):
        damaged.unlink()
    write_atomically(folder / f"{key}-{_digest(content)}{suffix}", content)


def _opened(path: Path) -> ctypes.CDLL | None:
    """A library, loaded; None if it cannot be loaded or is of another version."""
    try:
        functions = ctypes.CDLL(str(path))
        for name in ("kernel_version", "is_permitted"):
            getattr(functions, name).restype = ctypes.c_int64
            getattr(functions, name).argtypes = ()
    except (OSError, AttributeError):
        return None
    return functions if functions.kernel_version() == compiling.VERSION else None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


@functools.cache
def _own_folder() -> Path:
    """A temporary folder of this process."""
    folder = tempfile.mkdtemp(prefix="islr-search-kernel-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _cpu_flags() -> frozenset[str]:
    """What the CPU can do, in the words of Linux."""
    if SYSTEM == "linux":
        try:
            lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return frozenset()
        return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())
    import torch  # here: nothing else needs it, and it takes a second

    level = torch.backends.cpu.get_cpu_capability()
    return _X86_64_V4 if level == "AVX512" else _X86_64_V3 if level == "AVX2" else frozenset()
