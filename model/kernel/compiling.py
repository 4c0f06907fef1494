"""Compiles the kernel's C sources. Imports the standard library only: building a wheel uses it too."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).parent
PREBUILT = SOURCES / "prebuilt"
"""Folder with the libraries that a wheel brings. A clone has none."""

VERSION = 1
"""Version of the kernel, `KERNEL_VERSION` in the sources. Raise it when the kernel computes other numbers than before."""

TIME_LIMIT_S = 600.0
"""A compiler that takes longer is stopped. An old laptop needs less than a minute."""

_ANSWER_LIMIT_S = 60.0  # for its name and version

PREBUILT_FOR = (
    *(("linux", "x86_64", "avx2"), ("linux", "x86_64", "avx512"), ("linux", "x86_64", "amx"), ("linux", "aarch64", "neon")),
    *(("darwin", "aarch64", "neon"), ("windows", "x86_64", "avx2"), ("windows", "x86_64", "avx512")),
)
"""System, machine and instruction set of each library in a wheel."""

SYSTEM = platform.system().lower()
MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())

_FLAGS = (
    *("-O3", "-std=gnu11", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
    *("-fPIC", "-fvisibility=hidden", f"-DKERNEL_VERSION={VERSION}"),
)
_FLAGS_OF = {  # instruction set -> its flags
    "avx2": ("-march=x86-64-v3",),
    "avx512": ("-march=x86-64-v4", "-mprefer-vector-width=512"),
    "amx": ("-march=x86-64-v4", "-mprefer-vector-width=512", "-mavx512bf16", "-mamx-tile", "-mamx-bf16"),
    "neon": (),
}
_ZIG_SYSTEM = {"linux": "linux-gnu.2.17", "darwin": "macos", "windows": "windows-gnu"}  # glibc 2.17: of 2012
_ZIG_LINK = {  # without C's own library, which the process has anyway, a library fits any Linux, and zig need not build one
    "linux": ("-s",),
    "darwin": (),
    "windows": ("-s", "-Wl,--no-entry", "-lcompiler_rt"),
}


class CompilerError(Exception):
    """A compiler failed, hung or cannot be used. The text is one sentence."""


@dataclass(frozen=True)
class Compiler:
    """A C compiler of this machine."""

    command: tuple[str, ...]
    name: str
    """For people: "gcc 12.2.0"."""

    version: str
    """All that it says of itself."""

    @property
    def is_zig(self) -> bool:
        return self.name.startswith("zig ")


def sources_digest() -> str:
    """The digest of all C sources, names included."""
    digest = hashlib.sha256()
    for path in sorted([*SOURCES.glob("*.c"), *SOURCES.glob("*.h")], key=lambda path: path.name):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def prebuilt_name(system: str, machine: str, instructions: str, digest: str) -> str:
    """The file name of a prebuilt library. With the digest of its sources in it, an outdated library is never found."""
    return f"{system}-{machine}-{instructions}-{digest}{library_suffix(system)}"


def library_suffix(system: str) -> str:
    """How the name of a library ends. `system` is as in `platform.system()`, in lower case."""
    return {"windows": ".dll", "darwin": ".dylib"}.get(system, ".so")


def find_compilers() -> Iterator[Compiler]:
    """The compilers that may be used, best first: `$CC` alone if it is set; else cc, gcc, clang and the package ziglang.

    Raises:
        CompilerError: `$CC` cannot be used.
    """
    if chosen := os.environ.get("CC", "").strip():
        yield identify(shlex.split(chosen, posix=os.name == "posix"))
        return
    # gcc for Windows keeps AVX registers on a stack that is not aligned for them; clang for Windows needs Visual Studio
    for command in () if os.name == "nt" else ("cc", "gcc", "clang"):
        if shutil.which(command) is not None:
            with contextlib.suppress(CompilerError):
                yield identify([command])
    if (zig := zig_command()) is not None:
        yield identify(zig)


def zig_command() -> list[str] | None:
    """How to call the compiler of the package ziglang; None if it is not installed."""
    spec = importlib.util.find_spec("ziglang")
    if spec is None or not spec.submodule_search_locations or SYSTEM not in _ZIG_SYSTEM:
        return None
    program = Path(next(iter(spec.submodule_search_locations)), "zig.exe" if os.name == "nt" else "zig")
    return [str(program), "cc"] if program.exists() else None


def identify(command: Sequence[str]) -> Compiler:
    """Asks a compiler for its name and version.

    Raises:
        CompilerError: it cannot be started or does not say.
    """
    text = _run([*command, "--version"], time_limit_s=_ANSWER_LIMIT_S)
    number = re.search(r"version (\d[\w.]*)", text) or re.search(r"(\d+\.\d+\.\d+)", text)
    kind = "clang" if "clang" in text else "gcc" if "Free Software Foundation" in text else Path(command[0]).stem
    if Path(command[0]).stem == "zig":
        kind, number = "zig", re.search(r"([\w.+-]+)", _run([command[0], "version"], time_limit_s=_ANSWER_LIMIT_S))
    return Compiler(tuple(command), f"{kind} {number.group(1) if number else '?'}", text)


def flags(instructions: str, compiler: Compiler, system: str = SYSTEM, machine: str = MACHINE) -> tuple[list[str], list[str]]:
    """The compiler's flags for an instruction set: to compile, and to link."""
    own = _FLAGS_OF[instructions]
    if not compiler.is_zig:
        return [*_FLAGS, *own], ["-shared", "-lm"]
    target = ["-target", f"{machine}-{_ZIG_SYSTEM[system]}", *(flag.replace("x86-64-", "x86_64_") for flag in own)]
    return [*_FLAGS, *target], ["-shared", *target, "-nostdlib", *_ZIG_LINK[system]]


def compile_library(
    instructions: str,
    compiler: Compiler,
    result: Path,
    *,
    system: str = SYSTEM,
    machine: str = MACHINE,
    more_flags: Sequence[str] = (),
) -> None:
    """Compiles the kernel into a file, whose folder takes the compiler's own files too. Only zig compiles for another machine.

    Raises:
        CompilerError: the compiler failed or took too long; with the first line of its error.
    """
    compiling, linking = flags(instructions, compiler, system, machine)
    part = result.with_suffix(".o")
    for words in (
        [*compiling, *more_flags, "-c", str(SOURCES / "step.c"), "-o", str(part)],
        [str(part), *linking, *more_flags, "-o", str(result)],
    ):
        _run([*compiler.command, *words], time_limit_s=TIME_LIMIT_S, own_files=result.parent)


def _run(command: Sequence[str], *, time_limit_s: float, own_files: Path | None = None) -> str:
    """What a program prints. If this process is interrupted or the time is over, the program ends with all that it started."""
    names = ("TMPDIR", "ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")
    folders = {} if own_files is None else dict.fromkeys(names, str(own_files))
    name = Path(command[0]).name
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **folders},
            start_new_session=True,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise CompilerError(f"{name} cannot be started: {error.strerror}") from error
    with process:
        try:
            output, _ = process.communicate(timeout=time_limit_s)
        except BaseException as error:
            _end(process)
            if isinstance(error, subprocess.TimeoutExpired):
                raise CompilerError(f"{name} did not finish within {time_limit_s:g} s") from None
            raise
    if process.returncode:
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        told = next((line for line in lines if "error" in line), lines[0] if lines else f"exit code {process.returncode}")
        raise CompilerError(f"{name} failed: {told}")
    return output


def _end(process: subprocess.Popen[str]) -> None:
    if sys.platform == "win32":
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
