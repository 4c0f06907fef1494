"""optuna-dashboard shows the studies."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from conftest import Cli
from launch import start_cli

from search.results.dashboard import address, free_port, serve


def taken_port() -> socket.socket:
    """A port that somebody listens on."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


@pytest.mark.slow
def test_it_lists_the_study(searched: Path) -> None:
    """Its HTTP API names the study; a taken port is passed over; Ctrl-C ends it."""
    with taken_port() as listener:
        port = listener.getsockname()[1]
        process = start_cli("dashboard", "tiny", "--port", str(port), cwd=searched)
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            found = re.fullmatch(r"optuna-dashboard on (http://127\.0\.0\.1:(\d+))/dashboard  \(Ctrl-C ends it\)\n", line)
            assert found, line
            assert int(found[2]) > port
            with urllib.request.urlopen(f"{found[1]}/api/studies", timeout=30) as reply:
                studies = json.load(reply)["study_summaries"]
            assert [study["study_name"] for study in studies] == ["tiny"]
            with urllib.request.urlopen(f"{found[1]}/api/studies/{studies[0]['study_id']}?after=0", timeout=30) as reply:
                assert len(json.load(reply)["trials"]) == 6
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=30)
            finally:
                process.kill()
    assert process.returncode == 130


def test_the_next_free_port() -> None:
    """A free port is taken as it is, a taken one is passed over."""
    with taken_port() as listener:
        port = listener.getsockname()[1]
        assert free_port("127.0.0.1", port) > port
    assert free_port("127.0.0.1", port) == port


def test_addresses() -> None:
    """An IPv6 address stands in brackets."""
    assert address("127.0.0.1", 8080) == "http://127.0.0.1:8080/dashboard"
    assert address("::1", 8080) == "http://[::1]:8080/dashboard"


def test_print_command(searched: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command to type by hand, alone on stdout."""
    monkeypatch.chdir(searched)
    done = cli("dashboard", "tiny", "--port", 9000, "--print-command")
    assert (done.code, done.err) == (0, "")
    assert done.out == "optuna-dashboard sqlite:///runs/studies.db --host 127.0.0.1 --port 9000\n"


def test_a_host_that_is_not_ours(searched: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address of another machine is refused with 3."""
    monkeypatch.chdir(searched)
    done = cli("dashboard", "tiny", "--host", "192.0.2.1")
    assert (done.code, done.err.splitlines()[0]) == (3, "error: the dashboard cannot listen there")


def test_ctrl_c_during_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ctrl-C that comes while a page is being answered still ends it."""

    def page(_environ: object, start_response: Callable[[str, list[tuple[str, str]]], object]) -> list[bytes]:
        start_response("200 OK", [])
        signal.raise_signal(signal.SIGINT)
        return [b"page"]

    monkeypatch.setattr("optuna_dashboard.wsgi", lambda _storage: page)
    with taken_port() as listener:
        port = free_port("127.0.0.1", listener.getsockname()[1])

    def ask() -> None:
        with contextlib.suppress(ConnectionError):  # the page may be lost with the server that was to send it
            urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=10).close()

    asking = threading.Thread(target=ask)
    with pytest.raises(KeyboardInterrupt):
        serve(optuna.storages.InMemoryStorage(), "127.0.0.1", port, asking.start)
    asking.join()
