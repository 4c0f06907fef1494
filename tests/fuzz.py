"""Fuzzes the commands with thousands of broken studies, data sets and names; each must end in a result or a proper error.

    python tests/fuzz.py --examples 3000 --seed 0 --what definitions data names

Exit code 0 if all is well; 1 if anything is wrong, with the name of a folder that holds the failing input. `tests/test_fuzz.py`
runs a short form.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import resource
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

os.environ.setdefault("OMP_NUM_THREADS", "1")
from launch import ROOT, TINY_STUDY, Answer, environment
from test_definition import ASSIGNMENTS, TEXTS

from data_utils.hdf5 import Clip, write_signer
from data_utils.landmarks import NUM_LANDMARKS
from data_utils.words import DICTIONARY_NAME, write_words
from search.cli import execute
from search.definition.settings import settings as known_settings
from search.definition.study_file import load_definition, validate_name
from search.errors import DefinitionError

LIMIT_S = 10
"""Limit on the processor time per input; none needs a twentieth of it."""

MEMORY_BYTES = 1 << 30
"""Limit on the memory that an input may add; none needs a tenth of it."""

KINDS = ("definitions", "data", "names")


# Results


class BadResult(AssertionError):
    """An input had a result that no input may have."""


class TimedOut(BaseException):
    """Not an `Exception`, so that no handler on the way up catches it."""


@dataclass
class Tally:
    """Counts of inputs and results."""

    codes: Counter[str] = field(default_factory=Counter)
    """By command and exit code."""

    errors: Counter[str] = field(default_factory=Counter)
    """By first line, without quoted values."""

    def add(self, command: str, done: Answer) -> None:
        self.codes[f"{command}: exit {done.code}"] += 1
        if done.err.startswith("error: "):
            self.errors[re.sub(r"`.*`|\d+|'.*'", "_", done.err.splitlines()[0])] += 1

    def text(self) -> str:
        lines = [f"  {name:32} {count:6}" for name, count in sorted(self.codes.items())]
        return "\n".join([*lines, f"  {'distinct first lines of errors':32} {len(self.errors):6}"])


FORM = re.compile(r"error: \S.*(?:\n(?:  |got: |expected: |hint: ).*)*\n(?:expected|hint): \S.*(?:\n  .*)*\n")


def require_answer(done: Answer, codes: tuple[int, ...] = (0, 2)) -> None:
    """Checks for an allowed exit code; with 2, for an empty stdout and a proper error on stderr."""
    if done.code not in codes:
        raise BadResult(f"exit code {done.code}\n{done.err}")
    if "Traceback" in done.out + done.err:
        raise BadResult(f"a traceback\n{done.err}")
    if done.code == 2 and done.out:
        raise BadResult(f"an error, but also output on stdout: {done.out[:200]!r}")
    if done.code == 2 and not FORM.fullmatch(done.err[done.err.find("error: ") :]):
        raise BadResult(f"not a proper error:\n{done.err!r}")


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Limits processor time, not wall time: other programs may keep the machine busy."""

    def stop(*_: object) -> None:
        raise TimedOut

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def call(command: Callable[[list[str]], int], arguments: list[str]) -> Answer:
    """Runs a command in this process, with streams as strict as real ones."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", errors) for errors in ("strict", "backslashreplace"))
    argv, sys.argv = sys.argv, ["search", *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = int(command(arguments))
            out.flush()
    except Exception as error:  # `execute` lets none through
        raise BadResult(f"{type(error).__name__}: {error}") from error
    finally:
        sys.argv = argv
    err.flush()
    shown = [stream.buffer.getvalue().decode() for stream in (out, err)]  # type: ignore[attr-defined]  # a BytesIO
    return Answer(code, *shown)


def search(*arguments: str) -> Answer:
    """`islr-search` in this process, within the time limit."""
    with limited():
        try:
            return call(execute, list(arguments))
        except TimedOut:
            raise BadResult(f"still busy after {LIMIT_S} s") from None


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[Path]:
    """A new working folder, deleted afterwards."""
    before = Path.cwd()
    place = Path(tempfile.mkdtemp(dir=folder))
    os.chdir(place)
    try:
        yield place
    finally:
        os.chdir(before)
        shutil.rmtree(place)


def require_nothing_started(place: Path) -> None:
    """Checks that there is no study in the database and no study folder. The demo set, index and prepared clips may stay."""
    left = sorted(path.name for path in place.glob("runs/*"))
    if not set(left) <= {"prepared", "data", "studies.db"}:
        raise BadResult(f"the error left {left}")
    if "studies.db" in left:
        with contextlib.closing(sqlite3.connect(place / "runs" / "studies.db")) as database:
            studies = database.execute("SELECT study_name FROM studies").fetchall()
        if studies:
            raise BadResult(f"the error left a half-made study: {studies}")


# Definitions

RICH_STUDY = """\
# Every key of a study file
about: "Every kind of dimension \\u2013 手話"
objective: {metric: val_loss, direction: minimize}
trials: 12
sampler: {name: random}
pruner:
  name: median
  startup: 3
  warmup_epochs: 2
data:
  train: rest
  validation: [9001]
  test: none
fixed:
  train.epochs: 2
  model.width: 16
  bias: false
space:
  layers: {low: 1, high: 3, step: 1}
  train.batch_size: {low: 4, high: 64, log: true}
  dropout: {low: 0.0, high: 0.5, step: 0.1}
  activation:
    choices: [relu, gelu, silu]
  norm_first: {choices: [true, false]}
  preprocess.mask: {choices: [lengths, detected]}
baseline:
  layers: 2
  batch_size: 8
  activation: gelu
"""
VALID = [TINY_STUDY, RICH_STUDY, (ROOT / "studies" / "label_smoothing.yaml").read_text(encoding="utf-8")]
RAN = "ran"
"""A file that exists if a study has run code."""

CODE = [
    f"!!python/object/apply:os.system ['touch {RAN}']",
    f"!!python/object/apply:os.mkdir [{RAN}]",
    f"!!python/object/new:os.mkdir [{RAN}]",
    f"!!python/object/apply:subprocess.check_call [[touch, {RAN}]]",
    f'!!python/object/apply:builtins.exec [\'open("{RAN}", "w")\']',
    f"!<tag:yaml.org,2002:python/object/apply:os.mkdir> [{RAN}]",
    f"%TAG !e! tag:yaml.org,2002:python/object/apply:\n---\n!e!os.mkdir [{RAN}]\n",
]
ODD = [
    *("", "~", "''", "true", "yes", "text", "手話", "🤟", "\u202eabc", "rest", "auto", "none", "random"),
    *("0", "-1", "1", "2", "0.5", "1e5", "-0.0", "1.", "0o17", "017", "1_000", "0x1F", "0b11", "'5'", "190:20:30"),
    *(".nan", ".inf", "-.inf", "1e999", "-1e999", "1e-400", "1e308", "9223372036854775808", "1e19", "4e-324"),
    *("9" * 300, "9" * 5000, "9" * 60_000, "0x" + "f" * 300, "0x" + "f" * 20_000, "1:" * 400 + "1", "1:" * 400 + "1.5"),
    *("9" * 60_000 + "x", "1e" + "9" * 20_000, "." * 30_000, "1" * 300 + ".5", "0." + "1" * 5000, "1.e" * 10_000),
    *("2001-01-01", "2001-12-14t21:59:43.10-05:00", "9999-99-99", "=", "<<", "!!int x", "!!int ''", "!!float x", "!!bool 1"),
    *("!!binary aGk=", "!!binary é", "!!set {a, b}", "!!omap [a: 1]", "!!pairs [a: 1]", "!!timestamp x", "!!str [a]"),
    "!!null x",
    *("!!map x", "!!seq x", "!x y", "!", "!!", "!<x", "&a x", "*a", "&a {b: *a}", "<<: {epochs: 3}", "{<<: [{a: 1}, {b: 2}]}"),
    *("[]", "{}", "[1, 2]", "{a: b}", "{low: 1}", "{low: 1, high: 2}", "[[1]]", "[~]", "{? [a]: b}", "{? {a: b}: c}"),
    "{[a]: b}",
    *("[" * 3000, "{a: " * 3000, "- " * 3000, "? " * 1000, "[" * 100 + "]" * 100, "{a: " * 100 + "b" + "}" * 100),
    *("k" * 60_000, "k" * 60_000 + ": 1", " ".join("ab" * 5000), "{" + ", ".join(f"k{n}: 1" for n in range(9000)) + "}"),
    *('"\\ud800"', '"\\udcff"', '"\\0"', '"\\x1b[31m"', '"a\\nb"', '"\\u2028"', '"\\x85"', "\x00", "\x07", "\x1b"),
    *("\x85", "\u2028"),
    *("\ufeff", "\ufffe", "\r", "\t", "'", '"', "|", ">", "|9", "--- ", "...", "---\n---\n", "%YAML 9.9\n---\n", "#"),
    *(": ", "- ", "? "),
    *("!!python/name:os.system", "!!python/module:os", "!!python/tuple [1, 2]", *CODE),
]
SPACES = [
    *("low: 1\n    high: 9223372036854775808", f"low: 1\n    high: {'9' * 320}", "low: 1e-320\n    high: 1e300\n    log: true"),
    *("low: 0.0\n    high: 1e308\n    step: 1e-300", "low: 1\n    high: 99999999999999999999999999999999999\n    step: 2"),
    *("low: -1e308\n    high: 1e308", "low: 0.1\n    high: 0.3\n    step: 0.1", "low: 1\n    high: 2\n    step: 0"),
    "choices: [1, 1]",
    *("low: 1\n    high: 4\n    log: true\n    step: 1", "choices: [[1], [2]]", "choices: [.nan, .nan]", "choices: {a: b}"),
]
ENCODINGS = ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "shift_jis", "cp037"]
SCALAR = re.compile(r"[\w.+-]+")
Draw = Callable[[Any], Any]


@dataclass(frozen=True)
class Study:
    """A study file, and `--set` assignments."""

    content: bytes
    sets: list[str]
    trained: bool
    """Whether to train a trial of it, if it is valid."""


def _cut(draw: Draw, text: str) -> str:
    where = draw(st.integers(0, len(text)))
    return text[:where] if draw(st.booleans()) else text[where:]


def _delete_line(draw: Draw, text: str) -> str:
    lines = text.splitlines(keepends=True)
    return "".join(lines[:-1]) if not lines else "".join(_without(lines, draw(st.integers(0, len(lines) - 1))))


def _without(lines: list[str], number: int) -> list[str]:
    return lines[:number] + lines[number + 1 :]


def _repeat_line(draw: Draw, text: str) -> str:
    lines = text.splitlines(keepends=True) or [""]
    line = draw(st.sampled_from(lines))
    lines.insert(draw(st.integers(0, len(lines))), line)
    return "".join(lines)


def _swap_lines(draw: Draw, text: str) -> str:
    lines = text.splitlines(keepends=True) or [""]
    one, other = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    lines[one], lines[other] = lines[other], lines[one]
    return "".join(lines)


def _move_line(draw: Draw, text: str) -> str:
    lines = text.splitlines(keepends=True) or [""]
    number = draw(st.integers(0, len(lines) - 1))
    lines[number] = draw(st.sampled_from(["  ", " ", "\t", "- ", "# ", "? ", ": "])) + lines[number]
    return "".join(lines)


def _replace_scalar(draw: Draw, text: str) -> str:
    found = list(SCALAR.finditer(text))
    if not found:
        return text
    place = draw(st.sampled_from(found))
    return text[: place.start()] + draw(PIECES) + text[place.end() :]


def _insert(draw: Draw, text: str) -> str:
    where = draw(st.integers(0, len(text)))
    return text[:where] + draw(PIECES) + text[where:]


def _replace_space(draw: Draw, text: str) -> str:
    name = draw(st.sampled_from(["lr", "epochs", "layers", "dropout", "batch_size", "width", "label_smoothing", "activation"]))
    given = draw(st.sampled_from(SPACES))
    rest = text[: text.find("space:")] if "space:" in text else text
    baseline = draw(st.sampled_from(["", f"baseline: {{{name}: 1}}\n", f"baseline: {{{name}: 0.1}}\n"]))
    return f"{rest}space:\n  {name}:\n    {given}\n{baseline}"


WORDS = [*known_settings(), *("lr", "dropout", "epochs", "low", "high", "log", "step", "choices", "name", "startup", "space")]
PIECES = st.one_of(
    st.sampled_from(ODD),
    st.sampled_from(WORDS),
    st.text(max_size=10),
    st.floats().map(str),
    st.floats(0, 1).map(str),
    st.integers().map(str),
    st.integers(1, 64).map(str),
)
CHANGES = [_cut, _delete_line, _repeat_line, _swap_lines, _move_line, _replace_scalar, _replace_scalar, _insert, _replace_space]


@st.composite
def mutated_studies(draw: Draw) -> str:
    """A valid study with a few changes."""
    text = draw(st.sampled_from(VALID))
    for _ in range(draw(st.sampled_from([1, 1, 1, 1, 0, 2, 3]))):
        text = draw(st.sampled_from(CHANGES))(draw, text)
    return text


@st.composite
def contents(draw: Draw) -> bytes:
    """Contents of a study file: mostly text, mostly in UTF-8."""
    text: str = draw(draw(st.sampled_from([mutated_studies()] * 8 + [TEXTS, st.sampled_from(ODD)])))
    text = draw(st.sampled_from([str] * 8 + [lambda t: t.replace("\n", "\r\n"), lambda t: t.replace("\n", "\r")]))(text)
    encoding = draw(st.sampled_from(["utf-8"] * 5 * len(ENCODINGS) + ENCODINGS))
    content = text.encode(encoding, "surrogatepass" if encoding.startswith("utf") else "replace")
    if draw(st.integers(0, 9)) == 0:
        where = draw(st.integers(0, len(content)))
        content = content[:where] + draw(st.binary(min_size=1, max_size=4)) + content[where:]
    return content


PLACES = [
    *WORDS,
    *("about", "trials", "objective", "sampler", "sampler.name", "pruner.startup", "data", "data.validation", "fixed"),
]
PLACES += [
    *("baseline", "baseline.lr", "space.lr.low", "space.train.lr.high", "space.lr.step", "space.epochs", "a.b.c.d"),
    *("space..", "."),
]
ODD_SETS = st.lists(st.builds("{}={}".format, st.sampled_from(PLACES) | st.text(max_size=6), PIECES), min_size=1, max_size=2)


def printable(sets: list[str]) -> list[str]:
    """Assignments that can be typed: a command line cannot hold a null byte."""
    return [text.replace("\0", "") for text in sets]


STUDIES = st.builds(
    Study,
    content=contents(),
    sets=st.sampled_from([st.just([])] * 6 + [ASSIGNMENTS, ODD_SETS, ODD_SETS]).flatmap(lambda chosen: chosen).map(printable),
    trained=st.integers(0, 3).map(lambda number: number == 0),
)
SMALL = ["train.epochs=1", "train.batch_size=8", "model.width=16", "model.heads=2", "model.layers=1", "model.ffn_width=16"]


def check_study(study: Study, data: Path, tally: Tally) -> None:
    """Checks that `--dry-run` shows or refuses a study and leaves no files, and that a valid study can be sampled and run."""
    with inside(data.parent) as place:
        (place / "broken.yaml").write_bytes(study.content)
        sets = [word for assignment in study.sets for word in ("--set", assignment)]
        done = search("run", "broken.yaml", "--dry-run", *sets)
        tally.add("dry run", done)
        left = sorted(path.name for path in place.iterdir())
        if left != ["broken.yaml"]:
            raise BadResult(f"it left {left}\n{done.err}")
        require_answer(done)
        if done.code == 0:
            require_samples(study.sets)
        if done.code == 0 and study.trained:
            smaller = [word for assignment in SMALL for word in ("--set", assignment)]
            done = search("run", "broken.yaml", "--data", str(data), *sets, *smaller, "--trials", "1")
            tally.add("run", done)
            if done.code == 1 and "failed" in done.err:
                return  # for example a step size of 1e300: a negative answer
            require_answer(done)
            if done.code == 2:
                require_nothing_started(place)


def require_samples(sets: list[str]) -> None:
    """Checks that every dimension contains its samples."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    definition = load_definition("broken.yaml", sets)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(3):
        trial = study.ask({dim.name: dim.distribution() for dim in definition.space})
        lost = [dim.name for dim in definition.space if not dim.contains(trial.params[dim.name])]
        if lost:
            raise BadResult(f"a sampled value of {lost} is outside its dimension: {trial.params}")
        with contextlib.suppress(DefinitionError):
            definition.configs(trial.params)


# Names

RESERVED = [
    *("prepared", "data", "studies.db", "studies.db-wal", "studies.db-shm", "studies.db-journal", "PREPARED", "Data"),
    "crash",
]
LEADING = [
    *("..", ".", "../x", "/", "/x", "a/../..", "a/..", "~", "$HOME", "x/", "x\\y", "C:x", "-", "--as", "con", "x.yaml"),
    "x.yml",
]
NAMES = st.one_of(
    st.text(max_size=12),
    st.text(alphabet="._-/\\ab~$ \0\n手é\udc80", max_size=8),
    st.from_regex(r"\w[\w.-]{0,120}", fullmatch=True),
    st.sampled_from([*RESERVED, *LEADING]),
    st.builds("{}{}".format, st.sampled_from([*RESERVED, *LEADING]), st.sampled_from(["", ".", "/", "\n", " ", ".yaml", "\0"])),
)


@dataclass(frozen=True)
class Name:
    """A study name, and whether it is given by `--as`."""

    text: str
    as_option: bool
    trained: bool


NAMINGS = st.builds(Name, text=NAMES, as_option=st.booleans(), trained=st.integers(0, 5).map(lambda number: number == 0))


def check_name(name: Name, data: Path, tally: Tally) -> None:
    """Checks that an accepted name stays in the folder of runs, and that its files are only there."""
    with inside(data.parent) as outer:
        place = outer / "place"
        (place / "studies").mkdir(parents=True)
        (place / "tiny.yaml").write_text(TINY_STUDY, encoding="utf-8")
        os.chdir(place)
        before = files_below(outer)
        words = ["tiny.yaml", f"--as={name.text}"] if name.as_option else ["--", name.text]
        done = search("run", "--dry-run", *words)
        tally.add("dry run", done)
        require_answer(done)
        if files_below(outer) != before:
            raise BadResult(f"it left {files_below(outer) - before}")
        with contextlib.suppress(DefinitionError):
            accepted = validate_name(name.text)
            if (place / "runs" / accepted).resolve().parent != (place / "runs").resolve():
                raise BadResult(f"{accepted!r} leads out of the folder of runs")
        if name.as_option and name.trained and done.code == 0:
            done = search("run", *words, "--data", str(data), "--trials", "1", "--set", "epochs=1")
            tally.add("run", done)
            require_answer(done)
            made = files_below(outer) - before
            if outside := [path for path in made if not path.startswith("place/runs")]:
                raise BadResult(f"it wrote {outside}")
            if done.code == 2:
                require_nothing_started(place)
            elif f"place/runs/{name.text}/trials/0000/config.yaml" not in made:
                raise BadResult(f"its trial lies elsewhere: {made}")


def files_below(folder: Path) -> set[str]:
    """Everything in a folder, as relative paths."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# Data

SIGNERS = [9001, 9002, 9003]
BROKEN = f"{SIGNERS[0]}.hdf5"
CLIPS = [f"{SIGNERS[0]}{number:06d}" for number in range(4)]


def write_valid_data(folder: Path) -> None:
    """A small data set: two words, three signers, four clips each. Mostly undetected, so that damage hits the structure too."""
    folder.mkdir(parents=True)
    write_words(folder, ["hello", "thanks"])
    for signer in SIGNERS:
        rng = np.random.default_rng(signer)
        clips = []
        for number in range(4):
            feature = np.full((3, 3 + number, NUM_LANDMARKS), np.nan, np.float32)
            feature[:, :, 468:489] = rng.uniform(0.1, 0.9, (3, 3 + number, 21))
            clips.append(Clip(f"{signer}{number:06d}", feature, number % 2))
        write_signer(folder / f"{signer}.hdf5", clips)


@dataclass(frozen=True)
class Damage:
    """One fault in a data set."""

    kind: str
    numbers: tuple[int, ...]
    """Random numbers from which a fault derives its place and size."""


def _damage_bytes(kind: str, content: bytes, numbers: tuple[int, ...]) -> bytes:
    where, other, size, value = (number % max(1, len(content)) for number in numbers[:4])
    size = 1 + size % 600
    match kind:
        case "cut":
            return content[:where]
        case "flip":
            damaged = bytearray(content)
            for number in numbers[: 1 + value % 6]:
                damaged[number % len(damaged)] ^= 1 << (number // 7 % 8)
            return bytes(damaged)
        case "overwrite":
            return content[:where] + np.random.default_rng(other).bytes(size) + content[where + size :]
        case "fill":
            return content[:where] + [b"\0", b"\xff"][value % 2] * size + content[where + size :]
        case "splice":
            return content[:where] + content[other : other + size] + content[where + size :]
        case "append":
            return content + content[where : where + size] + b"\0" * (other % 50)
        case "insert":
            return content[:where] + np.random.default_rng(other).bytes(size % 16) + content[where:]
        case "head":  # the superblock and the root group
            return content[: where % 600] + bytes([value % 256]) + content[where % 600 + 1 :]
    raise AssertionError(kind)


BYTES = ["cut", "flip", "overwrite", "fill", "splice", "append", "insert", "head"]
COUNTS = [0, 1, 2, 7, 10_001, 2**31 - 1, 2**31, 2**40, 2**62]
TYPES: list[Any] = [
    *("f2", "f4", "f8", ">f4", "g", "i1", "i4", "i8", "u1", "u8", "c8", "S3", "S0", "V5", "?"),
    *(np.dtype([("r", "f4"), ("s", "i8")]), np.dtype(("f4", (2,))), h5py.string_dtype(), h5py.vlen_dtype("f4")),
    *(h5py.ref_dtype, h5py.regionref_dtype, h5py.enum_dtype({"a": 0, "b": 1}), h5py.opaque_dtype(np.dtype("M8[s]"))),
]


TOKENS: list[Any] = [-1, 2, 2**62, np.uint64(2**64 - 1), -(2**63), 1.5, np.nan, [[1]], [0, 1], 1, [], "hello", b"\xff"]
VALUES = [np.nan, np.inf, 1e300, -1e38, 0.0, 5e-324, 1e4, 65504.0]


def _replace(h5: h5py.File, clip: str, name: str, **how: Any) -> None:
    if name in h5[clip]:
        del h5[clip][name]
    h5[clip].create_dataset(name, **how)


def _cast(data: np.ndarray, dtype: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        return data.astype(dtype)


def _float_of_odd_width(group: h5py.Group, name: str, numbers: tuple[int, ...]) -> None:
    """A float type that HDF5 supports and NumPy does not."""
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(*[(31, 20, 11, 0, 20), (31, 23, 8, 0, 23), (15, 10, 5, 0, 10), (23, 15, 8, 0, 15)][numbers[2] % 4])
    kind.set_size(4 + numbers[3] % 3)
    space = h5py.h5s.create_simple((3, 3, NUM_LANDMARKS))
    h5py.h5d.create(group.id, name.encode(), kind, space)


def _missing_filter(h5: h5py.File, clip: str, name: str, number: int) -> None:
    """A filter that no library provides, with data that did not pass through it."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((1, 3, NUM_LANDMARKS))
    plist.set_filter([32_000, 305, 32_015][number % 3], h5py.h5z.FLAG_OPTIONAL, (1, 2, 3))
    if name in h5[clip]:
        del h5[clip][name]
    dataset = h5py.h5d.create(
        h5[clip].id, name.encode(), h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((3, 3, NUM_LANDMARKS)), plist
    )
    dataset.write_direct_chunk((0, 0, 0), b"abc" * 100, 0)


def _damage_structure(kind: str, path: Path, numbers: tuple[int, ...]) -> None:
    one, two, three = numbers[:3]
    clip, name = CLIPS[one % len(CLIPS)], ("feature", "token")[two % 2]
    count = COUNTS[three % len(COUNTS)]
    dtype = TYPES[three % len(TYPES)]
    with h5py.File(path, "r+") as h5:
        match kind:
            case "type":
                shape = [(3, 3, NUM_LANDMARKS), (1,), (), (0,), (3, 0, NUM_LANDMARKS)][numbers[3] % 5]
                _replace(h5, clip, name, shape=shape, dtype=dtype)
            case "null":
                _replace(h5, clip, name, data=h5py.Empty(dtype))
            case "shape":
                shape = [(count,), (3, min(count, 9)), (1, 3, NUM_LANDMARKS), (3, 3, 542), (3, NUM_LANDMARKS, 3), (1,) * 32][
                    two % 6
                ]
                _replace(h5, clip, "feature", shape=shape, dtype="f4", chunks=True, maxshape=(None,) * len(shape))
            case "huge":
                chunk = (3, 1 + numbers[3] % 64, NUM_LANDMARKS)
                limit = (3, None, NUM_LANDMARKS)
                how: dict[str, Any] = {"compression": "gzip"} if numbers[3] % 2 else {"fillvalue": 0.5}
                _replace(
                    h5,
                    clip,
                    "feature",
                    shape=(3, max(1, count), NUM_LANDMARKS),
                    dtype=["f4", "f8"][two % 2],
                    chunks=chunk,
                    maxshape=limit,
                    **how,
                )
            case "huge chunk":
                chunk = [(3, 200_000, NUM_LANDMARKS), (1, 660_000, NUM_LANDMARKS), (400, 400, NUM_LANDMARKS)][two % 3]
                _replace(h5, clip, "feature", shape=(3, 3, NUM_LANDMARKS), dtype="f4", chunks=chunk, maxshape=(None,) * 3)
            case "huge token":
                _replace(h5, clip, "token", shape=(1,), dtype="i1", chunks=(2**25,), maxshape=(None,), compression="gzip")
                h5[clip]["token"][0] = 1
            case "token":
                _replace(h5, clip, "token", data=TOKENS[three % len(TOKENS)])
            case "values":
                data = np.full((3, 4, NUM_LANDMARKS), VALUES[three % len(VALUES)])
                data[0, 0, 470] = [0.5, np.inf, np.nan, 3e38][numbers[3] % 4]
                _replace(h5, clip, "feature", data=_cast(data, ["f2", "f4", "f8", "g"][two % 4]))
            case "odd float":
                if name in h5[clip]:
                    del h5[clip][name]
                _float_of_odd_width(h5[clip], name, numbers)
            case "filter":
                _missing_filter(h5, clip, "feature", three)
            case "delete":
                del h5[[clip, f"{clip}/{name}"][three % 2]]
            case "link":
                place = [f"{clip}/{name}", f"{clip}/more", "more", clip][three % 4]
                targets: list[Any] = [
                    *(
                        h5py.SoftLink(f"/{clip}/feature"),
                        h5py.SoftLink(f"/{place}"),
                        h5py.SoftLink("/nowhere"),
                        h5py.SoftLink("/"),
                    ),
                    *(h5py.ExternalLink("9002.hdf5", "/9002000000"), h5py.ExternalLink("9002.hdf5", "/9002000000/feature")),
                    *(
                        h5py.ExternalLink(BROKEN, f"/{place}"),
                        h5py.ExternalLink("/dev/zero", "/x"),
                        h5py.ExternalLink("gone", "/"),
                    ),
                    h5[CLIPS[2]],
                    h5["/"],
                ]
                target = targets[numbers[3] % len(targets)]
                if place in h5:
                    del h5[place]
                h5[place] = target
            case "outside":
                _replace(
                    h5, clip, "feature", shape=(3, 3, NUM_LANDMARKS), dtype="f4", external=[("9002.hdf5", 0, 3 * 3 * 4 * 543)]
                )
            case "virtual":
                layout = h5py.VirtualLayout((3, 3, NUM_LANDMARKS), dtype="f4")
                layout[:, :, :] = h5py.VirtualSource("9002.hdf5", "9002000000/feature", shape=(3, 3, NUM_LANDMARKS))
                del h5[clip]["feature"]
                h5[clip].create_virtual_dataset("feature", layout)
            case "group name":
                odd = [
                    b"a b",
                    b"\xff\xfe",
                    "手話".encode(),
                    b"a\nb",
                    b"x" * 5000,
                    b"..",
                    b"\x1b[31m",
                    "\u202e".encode(),
                    b"%s",
                    b"-",
                ]
                h5.id.move(clip.encode(), odd[three % len(odd)])
            case "group":
                h5.create_group(["empty", f"{clip}/deep/er", "feature", "token"][three % 4])
            case "attribute":
                h5[clip].attrs["note"] = [np.zeros(9000), "x" * 60_000, h5py.Empty("f4")][three % 3]
            case "nothing":
                for every in list(h5):
                    del h5[every]
            case "committed type":
                h5[["type", f"{clip}/type"][two % 2]] = np.dtype("f4")
            case _:
                raise AssertionError(kind)


STRUCTURE = [
    *("type", "type", "type", "null", "shape", "huge", "huge chunk", "huge token", "token", "values", "odd float", "filter"),
    *("delete", "link", "link", "outside", "virtual", "group name", "group", "attribute", "nothing", "committed type"),
]
DICTIONARIES: list[str | bytes] = [
    *("", "{}", "[]", "null", "1", '"hello"', "{", '{"hello": 0', "nan", '{"hello": NaN, "thanks": 1}'),
    '{"hello": 0, "thanks": 1.0}',
    *('{"hello": 0, "hello": 1}', '{"hello": 0, "thanks": 2}', '{"hello": -1, "thanks": 0}', '{"hello": 1e999, "thanks": 1}'),
    *('{"hello": 0, "thanks": ' + "9" * 5000 + "}", '{"hello": 0, "thanks": ' + "9" * 300 + "}", "[" * 100_000),
    '{"a":' * 100_000,
    *('{"hello": 0, "\\ud800": 1}', '{"": 0, "thanks": 1}', '{"a\\nb": 0, "\\u0000": 1}', '{"\\u001b[31m": 0, "\\u202e": 1}'),
    *('{"hello": 0}', '{"hello": 0, "thanks": 1, "more": 2}', '{"hello": true, "thanks": false}'),
    '{"hello": [0], "thanks": {}}',
    *(b"\xff\xfe", b'\xef\xbb\xbf{"hello": 0, "thanks": 1}', '{"hello": 0, "thanks": 1}'.encode("utf-16"), b"\x00" * 100),
    *('{"手": 0, "話": 1}', '{"hello": 0, "thanks": 1}\n\n', '{"hello": 0, "thanks": 1} x'),
    '{"' + "k" * 100_000 + '": 0, "b": 1}',
    json.dumps({f"w{number}": number for number in range(3000)}),
    json.dumps({"hello": 0, **{"same": 1}})[:-1] + ', "same": 1' * 2000 + "}",
]
FILE_NAMES = [
    *(b"\xff.hdf5", b"a b.hdf5", b"a\nb.hdf5", "手.hdf5".encode(), b"_swap.hdf5", b"..hdf5", b"9004_swap.hdf5"),
    b"9001_swap.hdf5",
    *(b"\x1b[31m.hdf5", b"rest.hdf5", b"auto.hdf5", b"x" * 250 + b".hdf5", b".HDF5", b"9001.HDF5", b"-.hdf5", b"'.hdf5"),
    b"%s.hdf5",
    *(b"\xed\xa0\x80.hdf5", b"other.json", b"\xff.json", b".hdf5"),
]
FILES = [
    *("copy", "move", "folder", "link", "loop", "fifo", "empty", "dictionary", "dictionary", "dictionary file"),
    *("fifo dictionary", "gone"),
]


def _damage_files(kind: str, folder: Path, numbers: tuple[int, ...]) -> None:
    path = folder / BROKEN
    odd = Path(os.fsdecode(bytes(folder) + b"/" + FILE_NAMES[numbers[0] % len(FILE_NAMES)]))
    words = folder / DICTIONARY_NAME
    match kind:
        case "copy":
            shutil.copy(path, odd)
        case "move":
            path.rename(odd)
        case "folder":
            odd.mkdir()
        case "link":
            odd.symlink_to([path.name, "gone", "/dev/zero", "/dev/null", ".", "9002.hdf5"][numbers[1] % 6])
        case "loop":
            odd.symlink_to(odd.name)
        case "fifo":
            os.mkfifo(odd)
        case "empty":
            odd.write_bytes(b"")
        case "dictionary":
            content = DICTIONARIES[numbers[1] % len(DICTIONARIES)]
            words.write_bytes(content if isinstance(content, bytes) else content.encode())
        case "dictionary file":
            words.unlink()
            [lambda: None, words.mkdir, lambda: words.symlink_to("/dev/zero"), lambda: words.symlink_to(words.name)][
                numbers[1] % 4
            ]()
        case "fifo dictionary":
            words.unlink()
            os.mkfifo(words)
        case "gone":
            shutil.rmtree(folder)


NUMBERS = st.tuples(*[st.integers(0, 2**32)] * 6)
DAMAGE = st.one_of(
    st.lists(st.builds(Damage, st.sampled_from(BYTES).map("bytes {}".format), NUMBERS), min_size=1, max_size=2),
    st.lists(st.builds(Damage, st.sampled_from(STRUCTURE).map("structure {}".format), NUMBERS), min_size=1, max_size=2),
    st.tuples(
        st.builds(Damage, st.sampled_from(STRUCTURE).map("structure {}".format), NUMBERS),
        st.builds(Damage, st.sampled_from(BYTES).map("bytes {}".format), NUMBERS),
    ).map(list),
    st.builds(Damage, st.sampled_from(FILES).map("files {}".format), NUMBERS).map(lambda damage: [damage]),
)


def apply_damage(folder: Path, damage: Damage) -> None:
    """Applies one fault to a data set, unless an earlier fault has removed its target."""
    group, _, kind = damage.kind.partition(" ")
    path = folder / BROKEN
    if group == "files":
        _damage_files(kind, folder, damage.numbers)
    elif group == "bytes":
        path.write_bytes(_damage_bytes(kind, path.read_bytes(), damage.numbers))
    else:
        with contextlib.suppress(KeyError, ValueError, TypeError, OSError, RuntimeError):  # HDF5 writes no such thing
            _damage_structure(kind, path, damage.numbers)


class Child:
    """A process that reads data sets one after another, since damaged ones may crash HDF5 or keep it busy forever."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, place: Path) -> dict[str, Answer]:
        """The results of `check` and `run` for the data set in a working folder."""
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{place}\n".encode())
        process.stdin.flush()
        if not select.select([process.stdout], [], [], 6 * LIMIT_S)[0]:
            self.close()
            raise BadResult("the process hangs")
        line = process.stdout.readline()
        if not line:
            code = process.wait()
            self.close()
            raise BadResult(f"the process died of {code}")
        reply = json.loads(line)
        if reply["grown"] > MEMORY_BYTES:
            self.close()
            raise BadResult(f"it took {reply['grown']} bytes of memory")
        if reply["wrong"]:
            raise BadResult(reply["wrong"])
        return {command: Answer(*done) for command, done in reply["answers"].items()}

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            command = [sys.executable, __file__, "--child"]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), start_new_session=True
            )
        return self._process


def run_child() -> None:
    """Reads folders from stdin and writes JSON lines to the original stdout; the commands get streams of their own."""
    from data_utils.cli import execute as check

    reply = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
    os.chdir(Path(sys.stdin.readline().rstrip("\n")))
    while True:
        answers: dict[str, list[Any]] = {}
        wrong = ""
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            for name, command, words in (
                ("check", check, ["check", "data"]),
                ("run", execute, ["run", "tiny.yaml", "--data", "data", "--trials", "1"]),
            ):
                with limited():
                    done = call(command, words)
                answers[name] = [done.code, done.out, done.err]
        except TimedOut:
            wrong = f"still busy after {LIMIT_S} s"
        except BadResult as error:
            wrong = str(error)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        print(json.dumps({"answers": answers, "wrong": wrong, "grown": grown}), file=reply, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        os.chdir(line.rstrip("\n"))


DATA_STUDY = TINY_STUDY.replace("epochs: 2", "epochs: 1") + "data: {train: rest, validation: auto, test: none}\n"


def check_data(damage: list[Damage], valid_data: Path, child: Child, tally: Tally) -> None:
    """Checks that both commands use a data set or refuse it properly, and that a refusal leaves no study."""
    with inside(valid_data.parent) as place:
        (place / "tiny.yaml").write_text(DATA_STUDY, encoding="utf-8")
        shutil.copytree(valid_data, place / "data")
        for one in damage:
            apply_damage(place / "data", one)
        done = child.ask(place)
        for command, answered in done.items():
            tally.add(command, answered)
        tally.codes[f"check {done['check'].code}, run {done['run'].code}"] += 1
        require_answer(done["check"], (0, 1, 2))
        if done["check"].code == 1 and not re.search(r"^\d+ problems? in \d+ places?\n\Z", done["check"].out, re.MULTILINE):
            raise BadResult(f"not a summary of `check`:\n{done['check'].out}")
        if done["check"].code != 2 and done["check"].err:
            raise BadResult(f"`check` wrote to stderr: {done['check'].err}")
        require_answer(done["run"])
        if done["run"].code == 2:
            require_nothing_started(place)


# Command line


def fuzz(kind: str, examples: int, first_seed: int, folder: Path, saved: Path) -> Tally:
    """Tries many inputs of a kind.

    Raises:
        BadResult: one had a result that no input may have; it is in `saved`.
    """
    tally = Tally()
    valid_data = folder / "valid"
    if not valid_data.exists():
        write_valid_data(valid_data)
    child = Child()

    def give(case: Any) -> None:
        tally.codes["inputs"] += 1
        try:
            if isinstance(case, Study):
                check_study(case, valid_data, tally)
            elif isinstance(case, Name):
                check_name(case, valid_data, tally)
            else:
                check_data(case, valid_data, child, tally)
        except BadResult as wrong:
            save(case, valid_data, saved, str(wrong))
            raise

    strategy: st.SearchStrategy[Any] = {"definitions": STUDIES, "data": DAMAGE, "names": NAMINGS}[kind]
    phases = [Phase.generate] if kind == "data" else [Phase.generate, Phase.shrink]
    wanted = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    try:
        seed(first_seed)(wanted(given(strategy)(give)))()
    finally:
        child.close()
    return tally


def save(case: Any, valid_data: Path, saved: Path, wrong: str) -> None:
    """Saves a failing input; a later, smaller one replaces it."""
    shutil.rmtree(saved, ignore_errors=True)
    saved.mkdir(parents=True)
    (saved / "wrong.txt").write_text(f"{wrong}\n\n{case!r}\n", encoding="utf-8", errors="backslashreplace")
    if isinstance(case, Study):
        (saved / "broken.yaml").write_bytes(case.content)
    elif isinstance(case, list):
        shutil.copytree(valid_data, saved / "data")
        for damage in case:
            apply_damage(saved / "data", damage)


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzzes the commands with thousands of broken studies, data sets and names.")
    parser.add_argument("--examples", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--what", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        run_child()
        return 0
    code = 0
    for name in ("SEARCH_DATA", "SEARCH_STORAGE", "SEARCH_RUNS"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.what:
            saved = Path(tempfile.gettempdir()) / f"fuzz-{kind}-{os.getpid()}"
            try:
                tally = fuzz(kind, options.examples, options.seed, Path(folder), saved)
            except BadResult as wrong:
                code = 1
                print(f"{kind}: WRONG: {str(wrong)[:2000]}\n  the input is in {saved}", flush=True)
            else:
                print(f"{kind}: all well\n{tally.text()}", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
