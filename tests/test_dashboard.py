"""optuna-dashboard shows the studies."""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import Cli
from launch import start_cli, wait_until

from search.reporting.dashboard.serve import address, free_port, plain_command, serve


def taken_port() -> socket.socket:
    """A port that is in use."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


@pytest.mark.slow
def test_it_lists_the_study(searched_copy: Path) -> None:
    """The HTTP API lists the study, a port in use is skipped, the page is filled, and Ctrl-C stops the server."""
    with taken_port() as listener:
        port = listener.getsockname()[1]
        process = start_cli("dashboard", "tiny", "--port", str(port), cwd=searched_copy)
        try:
            assert process.stderr is not None
            line = next(line for line in process.stderr if not line.endswith(" ...\n"))
            where = r"(http://127\.0\.0\.1:(\d+))/dashboard/studies/1"
            told = re.fullmatch(rf"optuna-dashboard on {where}  \(stop with Ctrl-C\)\n", line)
            assert told, line
            assert int(told[2]) > port
            with urllib.request.urlopen(f"{told[1]}/api/studies", timeout=30) as reply:
                studies = json.load(reply)["study_summaries"]
            assert [study["study_name"] for study in studies] == ["tiny"]
            with urllib.request.urlopen(f"{told[1]}/api/studies/{studies[0]['study_id']}?after=0", timeout=30) as reply:
                assert len(json.load(reply)["trials"]) == 6
            assert process.stderr.readline().startswith("filled: note, ")
            page = asked(f"{told[1]}/api/studies/{studies[0]['study_id']}?after=0")
            assert "A small search" in page["note"]["body"]
            assert [len(trial["artifacts"]) for trial in page["trials"]] == [3] * 6
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=30)
            finally:
                process.kill()
    assert process.returncode == 130


def test_the_next_free_port() -> None:
    """A free port is used, a port in use is skipped."""
    with taken_port() as listener:
        port = listener.getsockname()[1]
        assert free_port("127.0.0.1", port) > port
    assert free_port("127.0.0.1", port) == port


def test_addresses() -> None:
    """An IPv6 address is put in brackets."""
    assert address("127.0.0.1", 8080, 3) == "http://127.0.0.1:8080/dashboard/studies/3"
    assert address("::1", 8080, 3) == "http://[::1]:8080/dashboard/studies/3"


def test_print_command(searched_copy: Path, cli: Cli) -> None:
    """`--print-command` prints a command that serves the filled page with its files."""
    with taken_port() as listener:
        port = listener.getsockname()[1]
    done = cli("dashboard", "tiny", "--port", port, "--print-command")
    assert (done.code, done.err[:14]) == (0, "filled: note, ")
    places = f"--host 127.0.0.1 --port {port} --artifact-dir runs/artifacts"
    assert done.out == f"optuna-dashboard sqlite:///runs/studies.db {places}\n"
    words = shlex.split(done.out)
    command = [sys.executable, "-c", "import sys; from optuna_dashboard._cli import main; main()", *words[1:]]
    with subprocess.Popen(command, cwd=searched_copy, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            base = f"http://127.0.0.1:{port}"
            wait_until(lambda: answers(f"{base}/api/studies"), process)
            study = asked(f"{base}/api/studies")["study_summaries"][0]["study_id"]
            page = asked(f"{base}/api/studies/{study}?after=0")
            assert "A small search" in page["note"]["body"]
            trial = page["trials"][0]
            (known,) = (one for one in trial["artifacts"] if one["filename"] == "curve.csv")
            with urllib.request.urlopen(
                f"{base}/artifacts/{study}/{trial['trial_id']}/{known['artifact_id']}", timeout=30
            ) as reply:
                assert reply.read() == (searched_copy / "runs/tiny/trials/0000/curve.csv").read_bytes()
        finally:
            process.kill()


def asked(address: str) -> Any:
    """The server's reply as JSON."""
    with urllib.request.urlopen(address, timeout=30) as reply:
        return json.load(reply)


def answers(address: str) -> bool:
    """Whether the server is up."""
    try:
        asked(address)
    except OSError:
        return False
    return True


def test_the_command_is_quoted(tmp_path: Path) -> None:
    """Folders with spaces are quoted."""
    words = shlex.split(plain_command("sqlite:///my runs/studies.db", "::1", 8080, Path("my runs/artifacts")))
    assert words[1] == "sqlite:///my runs/studies.db"
    assert words[-1] == "my runs/artifacts"


def test_foreign_host(searched: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address of another machine is an error with exit code 3."""
    monkeypatch.chdir(searched)
    done = cli("dashboard", "tiny", "--host", "192.0.2.1")
    assert (done.code, done.err.splitlines()[0]) == (3, "error: the dashboard cannot listen on this address")


def test_ctrl_c_during_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C during a request stops the server."""

    def page(_environ: object, start_response: Callable[[str, list[tuple[str, str]]], object]) -> list[bytes]:
        start_response("200 OK", [])
        signal.raise_signal(signal.SIGINT)
        return [b"page"]

    monkeypatch.setattr("optuna_dashboard.wsgi", lambda *_: page)
    with taken_port() as listener:
        port = free_port("127.0.0.1", listener.getsockname()[1])

    def ask() -> None:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=10).close()
            except urllib.error.URLError as error:
                if isinstance(error.reason, ConnectionRefusedError):  # the server does not listen yet
                    time.sleep(0.05)
                    continue
            except ConnectionError:
                pass  # the page may be lost with the server that was to send it
            return

    asking = threading.Thread(target=ask)
    with pytest.raises(KeyboardInterrupt):
        serve(optuna.storages.InMemoryStorage(), "127.0.0.1", port, asking.start)
    asking.join()
