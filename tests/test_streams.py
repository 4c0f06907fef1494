"""Standard streams that are closed, full or left by their reader, and searches started from Python in unusual ways."""

from __future__ import annotations

import contextlib
import importlib
import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
from conftest import Cli
from launch import ROOT, TINY_STUDY, environment, states

from data_utils.cli import execute as data_main
from data_utils.streams import safe_streams
from search.cli import execute
from search.commands.output import write_output
from search.running.signals import StopSignals

STREAMS = {  # kind of stream -> exit code of what prints its result there, and why
    "full": (3, "No space left on device"),
    "left": (0, ""),
    "closed": (3, "it is closed"),
    "none": (3, "it is closed"),
}


def broken(kind: str) -> TextIO | None:
    """A stream that cannot be written: on a full disk, left by its reader, closed, or none at all."""
    if kind == "left":
        reader, writer = os.pipe()
        os.close(reader)
        return os.fdopen(writer, "w", encoding="utf-8")
    if kind == "none":
        return None
    stream = os.fdopen(os.open("/dev/full", os.O_WRONLY), "w", encoding="utf-8")
    if kind == "closed":
        stream.close()
    return stream


@contextlib.contextmanager
def broken_streams(kind: str, *names: str) -> Iterator[None]:
    """Replaces standard streams."""
    with pytest.MonkeyPatch.context() as patch:
        streams = {name: broken(kind) for name in names}
        for name, stream in streams.items():
            patch.setattr(sys, name, stream)
        yield
        for stream in streams.values():
            if stream is not None:
                stream.close()


@pytest.mark.parametrize("kind", ["full", "left", "none"])
def test_a_search_goes_on_without_output(kind: str, place: Path, tiny: Path) -> None:
    """Progress and summary may be lost. Lost JSON ends with another code, after the search. Data are prepared meanwhile."""
    run = ["run", "tiny.yaml", "--data", str(tiny)]
    for options, code in (("--trials=1 --json", STREAMS[kind][0]), ("--trials=2", 0)):
        with broken_streams(kind, "stdout", "stderr"):
            assert execute([*run, *options.split()]) == code
    assert states(place) == ["COMPLETE"] * 2


@pytest.mark.parametrize("kind", STREAMS)
def test_lost_output_has_an_exit_code(
    kind: str, searched: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Commands whose output is what they are for say why it was lost. An early end of `head` is no error."""
    code, why = STREAMS[kind]
    monkeypatch.chdir(searched)
    error = f"error: the output cannot be written\n  --> stdout\ngot: {why}\n" if code else ""
    for command in ("--help", "status tiny", "status tiny --watch --json", "trials tiny", "run quick --dry-run"):
        capsys.readouterr()
        with broken_streams(kind, "stdout"):
            assert execute(command.split()) == code
        assert capsys.readouterr().err[: len(error)] == error
    with broken_streams(kind, "stdout"):
        assert execute(["nonsense"]) == 2
    assert capsys.readouterr().err.startswith("error: no such command")


@pytest.mark.parametrize("kind", STREAMS)
def test_lost_output_of_data_commands(kind: str, tiny: Path, tmp_path: Path) -> None:
    """The same for data sets. `check BAD | head` still says by its exit code that it found problems."""
    code, _ = STREAMS[kind]
    (tmp_path / "1.hdf5").write_bytes(b"no data")
    new = str(tmp_path / "new")
    for words, expected in (
        (["info", str(tiny)], code),
        (["check", str(tmp_path)], 1),
        (["synth", new, "--clips", "12", "--signs", "2", "--signers", "2"], 0),
    ):
        with broken_streams(kind, "stdout", "stderr"):
            assert data_main(words) == expected


def test_a_lost_summary_is_mentioned(
    searched: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The summary of a search on a full disk is missed, but no reason to fail."""
    monkeypatch.chdir(searched)
    with broken_streams("full", "stdout"):
        assert execute(["run", "tiny.yaml", "--data", str(tiny), "--trials", "6"]) == 0
    note = "the summary was not printed: stdout cannot be written (No space left on device)\n"
    assert capsys.readouterr().err.endswith(note)


def test_a_stop_signal_without_stderr() -> None:
    """The first signal requests a stop even if that cannot be said."""
    kept, broken = os.dup(2), os.open("/dev/full", os.O_WRONLY)
    os.dup2(broken, 2)
    try:
        with StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.reason == "SIGTERM"
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(broken)


def test_a_pipe_that_does_not_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is written to a pipe that another program has made non-blocking."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.extend(iter(lambda: os.read(reader, 1 << 20), b"")))
    monkeypatch.setattr(sys, "stdout", os.fdopen(writer, "w"))
    with safe_streams():
        thread.start()
        sys.stdout.write("x" * 1_000_000)
    sys.stdout.close()
    thread.join()
    os.close(reader)
    assert len(b"".join(got)) == 1_000_000


def test_results_survive_every_encoding(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON stays JSON, and tables and YAML are UTF-8, where stdout is neither."""
    (place / "signs.yaml").write_text(TINY_STUDY.replace("A small", "手話 é"), encoding="utf-8")
    with Path("out").open("w", encoding="ascii") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert execute(["run", "signs.yaml", "--dry-run", "--json"]) == 0
        with safe_streams():
            write_output("手話 é\n", None)
    *printed, last = Path("out").read_bytes().splitlines()
    assert "手話 é search" in [json.loads(line.decode("ascii")).get("value") for line in printed]
    assert last.decode() == "手話 é"


@pytest.mark.slow
def test_as_a_process(place: Path, tiny: Path) -> None:
    """A script from stdin, without a guard, can use workers. Missing descriptors are not given to the database."""
    words = ["run", "tiny.yaml", "--data", str(tiny), "--trials", "1", "--engine", "processes"]
    script = f"import sys\nfrom search.cli import execute\nsys.exit(execute({words!r}))\n"
    command = ["sh", "-c", '"$@" >&- 2>&-', "sh", sys.executable]
    done = subprocess.run(command, input=script, cwd=place, env=environment(), text=True, timeout=600, check=False)
    assert (done.returncode, states(place)) == (0, ["COMPLETE"])
    with sqlite3.connect(place / "runs" / "studies.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_in_a_thread(place: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A search can run in a thread; there no signal can stop it. It names its own command, not the script's."""
    codes: list[int] = []
    words = ["run", "tiny.yaml", "--data", str(tiny), "--timeout", "0.1s"]
    thread = threading.Thread(target=lambda: codes.append(execute(words)))
    thread.start()
    thread.join()
    assert codes == [1], "no trial is finished"
    assert capsys.readouterr().err.splitlines()[-1] == f"  islr-search {' '.join(words)}"


def test_in_a_child_process_that_imports_its_script(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that starts processes of its own, without a guard, is told."""
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    done = cli("run")
    assert (done.code, done.err.splitlines()[-1]) == (2, 'hint: put the call under `if __name__ == "__main__":`')


def test_in_a_daemon_process(place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may not have children is told before anything is started."""
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # type: ignore[attr-defined]
    done = cli("run", "tiny.yaml", "--data", tiny, "--workers", 2)
    assert (done.code, done.err.splitlines()[0]) == (2, "error: workers cannot be started here")
    assert not (place / "runs").exists()


@pytest.mark.parametrize("when", ["data_utils.checking.summary.find_warnings", "data_utils.checking.describe.describe"])
def test_interrupted_info(when: str, tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C ends `info` with a word, whether it is reading or printing."""
    package, _, name = when.rpartition(".")
    real = getattr(importlib.import_module(package), name)

    def interrupted(*arguments: object) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(when, interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert data_main(["info", str(tiny)]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr() == ("", "stopped\n")


@pytest.mark.parametrize("package", ["search", "data_utils"])
def test_interrupted_import(package: str, tmp_path: Path) -> None:
    """Ctrl-C while the program is being loaded shows no traceback."""
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", package, "--help"],
        cwd=tmp_path,
        env=environment({"PYTHONPATH": f"{tmp_path}:{ROOT}"}),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
