"""The log of a run: every event as one JSON object per line, with the time of day and the elapsed time."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli

from search.errors import ResourceError
from search.events import Notice
from search.running.log import RunLog


def logged(place: Path, study: str = "tiny") -> list[list[dict[str, Any]]]:
    """The logs of a study's runs, oldest first."""
    files = sorted((place / "runs" / study / "logs").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    return [[json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] for path in files]


def test_every_event_is_logged(place: Path, tiny: Path, cli: Cli) -> None:
    """The log has the events that `--json` prints, with times; each run has its own file."""
    before = datetime.datetime.now(datetime.UTC)
    shown = cli("run", "tiny.yaml", "--data", tiny, "--trials", 2, "--json")
    assert shown.code == 0
    (log,) = logged(place)
    printed = [json.loads(line) for line in shown.out.splitlines()]
    opened = next(number for number, event in enumerate(printed) if event["event"] == "run_started")
    assert [{k: v for k, v in line.items() if k not in ("time", "elapsed")} for line in log] == printed[opened:], (
        "all events after the study was opened"
    )
    assert [line["event"] for line in log] == [
        "run_started", *["trial_started", "epoch_finished", "epoch_finished", "trial_finished"] * 2,
        "working", "run_finished",
    ]  # fmt: skip
    times = [datetime.datetime.fromisoformat(line["time"]) for line in log]
    assert all(time.tzinfo == datetime.UTC for time in times)
    assert (times[0] - before).total_seconds() >= -0.001
    assert [line["elapsed"] for line in log] == sorted(line["elapsed"] for line in log)
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 3).code == 0
    assert len(logged(place)) == 2
    names = {path.stem for path in (place / "runs" / "tiny" / "logs").iterdir()}
    assert names == {log[0]["run"] for log in logged(place)}


def test_error_is_logged(place: Path, tiny: Path, cli: Cli) -> None:
    """The last line has the error that ended the run and the exit code."""
    done = cli("run", "tiny.yaml", "--data", tiny, "--set", "lr=1e30", "--max-failures", 0)
    (log,) = logged(place)
    assert (log[-1]["event"], log[-1]["exit_code"]) == ("run_failed", 1)
    assert log[-1]["error"] + "\n" == done.err[done.err.index("error: ") :]


def test_crash_is_logged(place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected exception is logged with exit code 4."""
    monkeypatch.setattr("search.trial.files.curve_text", lambda histories: 1 / 0)
    assert cli("run", "tiny.yaml", "--data", tiny).code == 4
    assert logged(place)[0][-1] | {"time": "", "elapsed": 0} == {
        "schema": 1, "time": "", "elapsed": 0, "event": "run_failed", "exit_code": 4,
        "error": "ZeroDivisionError: division by zero",
    }  # fmt: skip


def test_log_is_not_writable(tmp_path: Path) -> None:
    """A log that cannot be created raises a ResourceError."""
    (tmp_path / "tiny").write_text("", encoding="utf-8")
    with pytest.raises(ResourceError, match="the run's log cannot be written"), RunLog(tmp_path / "tiny", "run"):
        pytest.fail("the log was opened")


def test_non_ascii_text(tmp_path: Path) -> None:
    """Non-ASCII characters are written without escapes."""
    with RunLog(tmp_path / "手話", "run") as log:
        log.before(lambda event: None)(Notice("手"))
    assert '"text": "手"' in log.path.read_text(encoding="utf-8")
