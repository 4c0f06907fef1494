"""The compiled kernel: how it is built, cached, found, refused, and packed into a wheel.

Most tests compile a stand-in of a few lines into a cache of their own. Whatever else in these tests needs the kernel takes it
from the user's cache, so the suite compiles it once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from conftest import Cli
from launch import ROOT, command_of, environment

from data_utils.errors import DataError
from model.kernel import compiling, library
from model.kernel.compiling import Compiler, CompilerError
from model.kernel.library import NoKernel, load_library

STAND_IN = """\
#include "number.h"
#include <math.h>
#include <stdint.h>
#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif
EXPORT int64_t kernel_version(void) { return KERNEL_VERSION; }
EXPORT int64_t is_permitted(void) { return 1; }
EXPORT double power(double x) { return exp(NUMBER * log(x)); }
"""

RECORDING = """\
#!/bin/sh
case "$*" in *" -c "*)
    echo $$ >> "{log}"
    if test -e "{log}.hang"; then
        sleep 300 &
        echo $! >> "{log}.hang"
        wait
    fi
esac
exec {command} "$@"
"""
"""A compiler that writes its process id to a file for each library. While another file exists, it hangs with its child."""

IN_A_PROCESS = """\
import pathlib, sys
from model.kernel import compiling, library
compiling.SOURCES = pathlib.Path(sys.argv[1])
kernel = library.load_library()
print(kernel.origin, pathlib.Path(kernel.functions._name).name, sorted({"torch", "numpy"} & sys.modules.keys()))
"""
"""Loads the kernel in a new process and prints where from."""


def named(name: str) -> Compiler:
    """A compiler of this machine; the test is skipped if it is missing."""
    command = compiling.zig_command() if name == "zig" else [name]
    if command is None:
        pytest.skip("the package ziglang is not installed")
    try:
        return compiling.identify(command)
    except CompilerError as error:
        pytest.skip(str(error))


def instruction_sets() -> list[str]:
    """The instruction sets of this CPU that the kernel is written for, the best first."""
    try:
        best = library.instructions_of_cpu()
    except NoKernel as error:
        pytest.skip(str(error))
    return ["avx512", "avx2"] if best == "avx512" else [best]


@pytest.fixture(autouse=True)
def loaded_anew() -> Iterator[None]:
    """Lets `load_library` forget what it has loaded, before and after each test."""
    library._load.cache_clear()
    yield
    library._load.cache_clear()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and sources that are compiled quickly."""
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "step.c").write_text(STAND_IN, encoding="utf-8")
    (sources / "number.h").write_text("#define NUMBER 2\n", encoding="utf-8")
    monkeypatch.setattr(compiling, "SOURCES", sources)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)
    return tmp_path / "cache" / "islr-search" / "kernel"


@pytest.fixture
def recorded(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The list of process ids that `$CC` wrote, one for each library that it compiled."""
    if os.name != "posix":
        pytest.skip("the recording compiler is a shell script")
    compiler = next(compiling.find_compilers(), None)
    if compiler is None or compiler.is_zig:
        pytest.skip("no C compiler of the system")
    log = cache.parents[2] / "compiled"
    script = log.with_name("recording-cc")
    script.write_text(RECORDING.format(log=log, command=" ".join(compiler.command)), encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    return log


def start(cache: Path) -> subprocess.Popen[str]:
    """Starts a process that loads the kernel from stand-in sources."""
    return subprocess.Popen(
        [sys.executable, "-c", IN_A_PROCESS, str(compiling.SOURCES)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def answer(process: subprocess.Popen[str]) -> str:
    """What such a process printed."""
    with process:
        return process.communicate(timeout=120)[0]


@pytest.mark.parametrize("name", ["gcc", "clang", "zig"])
def test_the_kernel_is_built(name: str) -> None:
    """Each compiler builds the kernel for each instruction set of this CPU, without a warning."""
    compiler = named(name)
    for instructions in instruction_sets():
        kernel = library.build(instructions, compiler)
        assert (kernel.instructions, kernel.origin) == (instructions, f"built with {compiler.name}")
        assert kernel.functions.kernel_version() == compiling.VERSION


@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_no_warnings(name: str) -> None:
    """The C sources are clean. `test_other_machines` asks zig."""
    compiler = named(name)
    words = [*compiler.command, *compiling.flags(instruction_sets()[0], compiler)[0], "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*words, "-fsyntax-only", str(compiling.SOURCES / "step.c")], check=True)


def test_built_once(recorded: Path) -> None:
    """The second process finds what the first has built. A change of a source is a new library. PyTorch is not needed."""
    first, second = (answer(start(recorded)) for _ in range(2))
    assert first == second
    assert first.startswith("built with gcc") or first.startswith("built with clang")
    assert first.endswith("[]\n")
    assert len(recorded.read_text().split()) == 1
    (compiling.SOURCES / "number.h").write_text("#define NUMBER 3\n", encoding="utf-8")
    assert answer(start(recorded)) not in (first, "")
    assert len(recorded.read_text().split()) == 2


def test_eight_processes_at_once(recorded: Path, cache: Path) -> None:
    """One builds, the others wait for it; no temporary file is left."""
    answers = {answer(process) for process in [start(cache) for _ in range(8)]}
    assert len(answers) == 1
    assert len(recorded.read_text().split()) == 1
    assert sorted(path.suffix for path in cache.iterdir()) == [".lock", compiling.library_suffix(compiling.SYSTEM)]


def wait_for_pids(file: Path, process: subprocess.Popen[str]) -> list[int]:
    """The process ids in a file, once there are any."""
    while not file.exists() or not file.read_text().endswith("\n"):
        assert process.poll() is None
    return [int(word) for word in file.read_text().split()]


def test_a_killed_builder_blocks_nobody(recorded: Path, cache: Path) -> None:
    """A process is killed while its compiler runs: the next one builds."""
    hang = recorded.with_name(f"{recorded.name}.hang")
    hang.touch()
    with start(cache) as builder:
        pids = wait_for_pids(recorded, builder) + wait_for_pids(hang, builder)
        builder.kill()
    hang.unlink()
    assert answer(start(cache)).startswith("built with")
    for pid in pids:  # nobody has ended its compiler
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("content", ["half", "none", "other version"])
def test_a_damaged_file_is_built_again(recorded: Path, cache: Path, content: str, tmp_path: Path) -> None:
    """A file that was cut short, or answers with another version, is replaced."""
    whole = answer(start(cache))
    (file,) = cache.glob(f"*{compiling.library_suffix(compiling.SYSTEM)}")
    parts = file.read_bytes()
    if content == "other version":
        other = tmp_path / "other"
        compiler = next(compiling.find_compilers())
        compiling.compile_library(
            library.instructions_of_cpu(), compiler, other, more_flags=("-UKERNEL_VERSION", "-DKERNEL_VERSION=-1")
        )
        name = f"{file.stem.rpartition('-')[0]}-{library._digest(other.read_bytes())}{file.suffix}"
        file.unlink()
        file.with_name(name).write_bytes(other.read_bytes())
    else:
        file.write_bytes(parts[: len(parts) // 2] if content == "half" else b"")
    assert answer(start(cache)) == whole
    assert [path.read_bytes() for path in cache.glob(f"*{file.suffix}")] == [parts]


def test_a_cache_that_cannot_be_written(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The process builds its own library."""
    instructions, compiler = instruction_sets()[0], named("cc")
    (tmp_path / "cache").write_text("a file")
    kernel = library.build(instructions, compiler)
    assert kernel.functions.kernel_version() == compiling.VERSION
    assert not str(kernel.functions._name).startswith(str(tmp_path))


def test_a_compiler_that_fails(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is the compiler's own error."""
    (compiling.SOURCES / "number.h").write_text("#define NUMBER twice\n", encoding="utf-8")
    with pytest.raises(NoKernel, match=r"^\S+ failed: .*error: .*twice"):
        library.build(instruction_sets()[0], named("cc"))
    assert not list(cache.glob(f"*{compiling.library_suffix(compiling.SYSTEM)}"))
    monkeypatch.setenv("CC", "no-such-compiler -m64")
    with pytest.raises(NoKernel, match=r"^no-such-compiler cannot be started: No such file or directory$"):
        load_library()


def test_a_compiler_that_hangs(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended with all that it started."""
    monkeypatch.setattr(compiling, "TIME_LIMIT_S", 0.5)
    hang = recorded.with_name(f"{recorded.name}.hang")
    hang.touch()
    with pytest.raises(NoKernel, match=r"^recording-cc did not finish within 0\.5 s$"):
        load_library()
    for pid in (recorded.read_text() + hang.read_text()).split():
        gone = time.monotonic() + 30
        while psutil.pid_exists(int(pid)) and command_of(psutil.Process(int(pid))):
            assert time.monotonic() < gone


def test_no_compiler(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason says what to install."""
    instruction_sets()
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(compiling, "zig_command", lambda: None)
    with pytest.raises(NoKernel, match=r"^there is no C compiler; `pip install ziglang` brings one$"):
        load_library()


def test_the_next_compiler(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the first compiler is too old or broken, another builds."""
    instruction_sets()
    good = named("gcc")
    bad = Compiler(("false",), "false", "")
    monkeypatch.setattr(compiling, "find_compilers", lambda: iter((bad, good)))
    assert load_library().origin == f"built with {good.name}"


def test_looked_for_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process looks for the library once, even if there is none."""
    named("cc")
    instruction_sets()
    assert load_library() is load_library()
    calls = []
    monkeypatch.setattr(compiling, "find_compilers", lambda: iter(calls.append(1) or ()))
    library._load.cache_clear()
    for _ in range(2):
        with pytest.raises(NoKernel, match="no C compiler"):
            load_library()
    assert calls == [1]


def test_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """SEARCH_KERNEL switches the kernel off; a word that it does not know is refused."""
    monkeypatch.setenv("SEARCH_KERNEL", "off")
    with pytest.raises(NoKernel, match=r"^SEARCH_KERNEL=off$"):
        load_library()
    monkeypatch.setenv("SEARCH_KERNEL", "no")
    with pytest.raises(DataError, match="SEARCH_KERNEL has an unknown value"):
        load_library()


V3 = "fpu sse sse2 avx f16c fma movbe abm bmi1 avx2 bmi2"
V4 = f"{V3} avx512f avx512dq avx512cd avx512bw avx512vl"


@pytest.mark.parametrize(
    ("machine", "flags", "float32", "bf16"),
    [
        ("x86_64", f"{V4} avx512_bf16 amx_tile amx_bf16", "avx512", "amx"),
        ("x86_64", f"{V4} amx_tile amx_int8", "avx512", "this CPU has no AMX, which bf16 needs"),
        ("x86_64", f"{V3} avx512f avx512cd", "avx2", "this CPU has no AMX, which bf16 needs"),
        ("x86_64", V3.replace("fma", ""), "this CPU has no AVX2", "this CPU has no AMX, which bf16 needs"),
        ("aarch64", "fp asimd", "neon", "this CPU has no AMX, which bf16 needs"),
        ("riscv64", "", "the kernel is not written for CPUs of the kind riscv64", "this CPU has no AMX, which bf16 needs"),
    ],
)
def test_instructions_of_cpu(
    machine: str, flags: str, float32: str, bf16: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The CPU's flags choose; a plain build is never taken."""
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: none\n", encoding="utf-8")
    monkeypatch.setattr(library, "_CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(library, "SYSTEM", "linux")
    monkeypatch.setattr(library, "MACHINE", machine)
    assert (instructions_or_reason("float32"), instructions_or_reason("bf16")) == (float32, bf16)


def instructions_or_reason(precision: str) -> str:
    """The instruction set that this CPU would use, or why there is none."""
    try:
        return library.instructions_of_cpu(precision)
    except NoKernel as reason:
        return str(reason)


def test_elsewhere_pytorch_knows_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no /proc/cpuinfo, PyTorch tells the same."""
    here = instruction_sets()[0]
    monkeypatch.setattr(library, "SYSTEM", "windows")
    assert library.instructions_of_cpu() == here


def test_doctor(cli: Cli, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`doctor` shows the kernel, or why there is none and what that costs."""
    from search.reporting import doctor

    kernel = library.build(instruction_sets()[0], named("cc"))
    assert (doctor._kernel().verdict, doctor._kernel().text) == ("ok", f"{kernel.instructions}, {kernel.origin}")
    monkeypatch.setenv("SEARCH_KERNEL", "off")
    note = "none: SEARCH_KERNEL=off. Without it, training takes about four times as long"
    assert (doctor._kernel().verdict, doctor._kernel().text) == ("note", note)
    monkeypatch.setenv("SEARCH_KERNEL", "fast")
    assert doctor._kernel().verdict == "wrong"


def built_wheel(folder: Path) -> Path:
    """A wheel of this project, built in this process."""
    pytest.importorskip("hatchling", reason="the package hatchling is not installed")
    from hatchling.builders.wheel import WheelBuilder

    return Path(next(WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])))


def test_a_wheel_brings_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It works without any compiler, and whole: sources, libraries of this machine, nothing left in the source tree."""
    named("zig")
    here = [machine for machine in compiling.PREBUILT_FOR if machine[:2] == (compiling.SYSTEM, compiling.MACHINE)]
    monkeypatch.setattr(compiling, "PREBUILT_FOR", tuple(machine for machine in here if machine[2] in instruction_sets()))
    with zipfile.ZipFile(built_wheel(tmp_path)) as wheel:
        wheel.extractall(tmp_path / "installed")
    kernel = tmp_path / "installed" / "model" / "kernel"
    sources = {path.name for path in compiling.SOURCES.iterdir() if path.is_file()}
    assert {path.name for path in kernel.iterdir()} - {"prebuilt"} == sources
    assert not compiling.PREBUILT.exists()

    code = "from model.kernel.library import *; import model; print(load_library().origin, model.__path__[0])"
    env = {**environment(), "PYTHONPATH": str(kernel.parents[1]), "PATH": "", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["prebuilt", str(kernel.parent)]
    assert not (tmp_path / "cache").exists()

    step = kernel / "step.c"
    step.write_text(f"{step.read_text(encoding='utf-8')}// changed\n", encoding="utf-8")
    code = code.replace("import model", "import model; compiling.zig_command = lambda: None")
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "NoKernel: there is no C compiler" in done.stderr  # not the library of the other sources


def test_a_clone_needs_no_ziglang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An editable installation asks for no compiler and compiles nothing; a wheel does; an sdist has all that it takes."""
    pytest.importorskip("hatchling", reason="the package hatchling is not installed")
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(ROOT)
    import hatch_build

    assert not any("ziglang" in name for name in hatch_build.get_requires_for_build_editable())
    assert any("ziglang" in name for name in hatch_build.get_requires_for_build_wheel())
    unchanged: dict[str, object] = {}
    hatch_build.PrebuiltKernel(str(ROOT), {}, None, None, str(tmp_path), "wheel").initialize("editable", unchanged)
    assert not unchanged
    with tarfile.open(tmp_path / hatch_build.build_sdist(str(tmp_path))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"hatch_build.py", *(f"model/kernel/{path.name}" for path in compiling.SOURCES.glob("*.[ch]"))} <= names


def test_a_wheel_without_ziglang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel that would lack its kernel is not built."""
    monkeypatch.setattr(compiling, "zig_command", lambda: None)
    with pytest.raises(RuntimeError, match="SEARCH_KERNEL=off"):
        built_wheel(tmp_path)


@pytest.mark.slow
def test_other_machines(tmp_path: Path) -> None:
    """zig compiles for every machine, without a warning, and a library needs nothing but the process that it is in."""
    zig = named("zig")
    for system, machine, instructions in compiling.PREBUILT_FOR:
        result = tmp_path / f"{system}-{machine}-{instructions}"
        warnings = ("-Wall", "-Wextra", "-Werror")
        compiling.compile_library(instructions, zig, result, system=system, machine=machine, more_flags=warnings)
        content = result.read_bytes()
        assert content.startswith({"linux": b"\x7fELF", "darwin": b"\xcf\xfa\xed\xfe", "windows": b"MZ"}[system])
        assert b"kernel_version\0" in content
        assert not [name for name in (b"libc.so", b"libm.so", b"msvcrt", b"ucrtbase") if name in content]
