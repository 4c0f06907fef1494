"""The C code under AddressSanitizer and UndefinedBehaviorSanitizer, on random sizes. All instruction sets give the same.

More cases by hand: build kernel_fuzz.c with the command that `built` runs, and call it with a higher number.
"""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from model.kernel.compiling import VERSION, CompilerError, find_compilers
from model.kernel.library import NoKernel, instructions_of_cpu

HERE = Path(__file__).parent
_X86 = {"avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"], "avx2": ["-march=x86-64-v3"]}
_AMX = ["-march=x86-64-v4", "-mamx-tile", "-mamx-bf16", "-mavx512bf16"]


def variants() -> dict[str, list[str]]:
    """Flags of what this CPU can run. `four lanes` is what other CPUs than x86-64 use."""
    try:
        best = instructions_of_cpu()
    except NoKernel:
        best = ""
    found: dict[str, list[str]] = {"four lanes": []}
    if best == "avx512":
        found |= _X86
    elif best == "avx2":
        found["avx2"] = _X86["avx2"]
    return found


Build = Callable[..., Path]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Builds the fuzzer with flags, each once."""
    return functools.cache(lambda *flags: built(tmp_path_factory.mktemp("fuzzer"), flags))


def built(folder: Path, flags: tuple[str, ...]) -> Path:
    """The fuzzer, by gcc or clang with sanitizers, without a warning."""
    program = folder / "kernel_fuzz"
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1"]
    usual = ["-std=gnu11", "-ffp-contract=fast", "-Wall", "-Wextra", "-Werror", f"-DKERNEL_VERSION={VERSION}"]
    try:
        compiler = next(one for one in find_compilers() if not one.is_zig)
    except (StopIteration, CompilerError):
        pytest.skip("there is no C compiler with sanitizers here")
    command = [*compiler.command, *usual, *sanitizers, *flags, "-o", str(program), str(HERE / "kernel_fuzz.c"), "-lm"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if "cannot find -lasan" in result.stderr or "libclang_rt" in result.stderr:
        pytest.skip("this compiler has no sanitizers")
    assert result.returncode == 0, result.stderr
    return program


def run(program: Path, *arguments: object) -> list[str]:
    """The lines of the fuzzer. A fault ends it with a report."""
    result = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-500:] + result.stderr[-3000:]
    return result.stdout.splitlines()


def numbers(line: str) -> list[float]:
    """Loss, gradient norm and sum of the logits."""
    return [float(word) for word in line.partition(": ")[2].split()]


@pytest.mark.slow
def test_random_sizes_touch_no_foreign_memory(build: Build) -> None:
    """Batches of 1 to 256 clips of 0 to 300 frames and models of all shapes; every instruction set gives the same numbers."""
    lines = {name: run(build(*flags), 4, 300) for name, flags in variants().items()}
    first = lines.pop("four lanes")
    assert len(first) == 4
    for others in lines.values():
        for one, other in zip(first, others, strict=True):
            assert numbers(one) == pytest.approx(numbers(other), rel=1e-4, abs=1e-4)


@pytest.mark.slow
def test_a_clip_of_the_greatest_length(build: Build) -> None:
    """2,000 frames in the suite; by hand up to the 10,000 that data sets may have."""
    fastest = list(variants().values())[1 if len(variants()) > 1 else 0]
    assert len(run(build(*fastest), 1, 2000)) == 1


@pytest.mark.slow
def test_tiles_touch_no_foreign_memory(build: Build) -> None:
    """The products in bf16, whose tiles are larger than many matrices."""
    try:
        instructions_of_cpu("bf16")
    except NoKernel as error:
        pytest.skip(str(error))
    assert len(run(build(*_AMX), 4, 300)) == 4
