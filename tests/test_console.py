"""What people and programs see, letter by letter."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from model.record import EpochRecord
from search.console import (
    LiveScreen,
    PlainScreen,
    TrialTable,
    columns,
    duration,
    footer,
    header,
    json_lines,
    number,
    screen,
    width,
)
from search.events import (
    EpochFinished,
    Notice,
    RunFinished,
    RunStarted,
    TrialFinished,
    TrialStarted,
    TrialSummary,
    WorkerDied,
)

PARAMS = {"label_smoothing": 0.25, "lr": 8.1e-4, "dropout": 0.1}
STARTED = RunStarted(
    study="手話",
    about="どの設定がよいか？",
    data="data/手話",
    words=1250,
    parts={"train": ("a", "b"), "validation": ("c",), "test": ("d",)},
    clips={"train": 1234, "validation": 56},
    device="cpu",
    workers=1,
    storage="sqlite:///runs/studies.db",
    finished=0,
    target=1000,
    epochs=50,
    space={"label_smoothing": "0.0 .. 0.6", "lr": "1e-05 .. 0.01 log", "dropout": "0.0 .. 0.5"},
    objectives=("val_loss",),
    folds=0,
    trainings=1,
    run="20261124T120000Z-7-ab12",
)
RECORD = EpochRecord(
    epoch=3,
    train_loss=1.5,
    val_loss=1.25,
    val_top1=0.5,
    val_top5=0.875,
    val_ece=0.125,
    val_ece_mass=0.125,
    val_loss_ts=1.125,
    temperature=1.5,
    seconds=2.0,
)
BEST = TrialSummary(3, PARAMS, 1.25, 0.5, 17)
BASELINE = TrialSummary(0, {"label_smoothing": 0.0, "lr": 3e-4, "dropout": 0.1}, 1.5, 0.25, 50)


def finished_trial(**changed: object) -> TrialFinished:
    """A complete trial, but for what is changed."""
    given = {
        "trial": 3,
        "state": "complete",
        "params": PARAMS,
        "value": 1.25,
        "values": {"val_loss": 1.25},
        "val_top1": 0.5,
        "epochs": 50,
        "seconds": 128.0,
        "is_best": True,
        "finished": 4,
        "target": 10,
    }
    return TrialFinished(**{**given, **changed})  # type: ignore[arg-type]


def finished_run(**changed: object) -> RunFinished:
    """A run that met its target, but for what is changed."""
    given = {
        "study": "mine",
        "finished": 10,
        "target": 10,
        "counts": {"complete": 7, "pruned": 3, "failed": 1},
        "best": BEST,
        "baseline": BASELINE,
        "front": (),
        "edges": (),
        "seconds": 3725.0,
    }
    return RunFinished(**{**given, **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00081, "8.1e-04"),
        (1e-5, "1.0e-05"),
        (0.01, "0.01"),
        (0.123456, "0.1235"),
        (0.0, "0"),
        (-0.002, "-2.0e-03"),
        (12345, "12,345"),
        (True, "True"),
        ("relu", "relu"),
        (None, "None"),
    ],
)
def test_numbers(value: object, text: str) -> None:
    """Four digits, small ones as powers, counts with commas."""
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (128, "2m08s"), (3599.6, "1h00m"), (3725, "1h02m"), (360_000, "100h00m")],
)
def test_durations(seconds: float, text: str) -> None:
    """Two units at most, never sixty of one."""
    assert duration(seconds) == text


def test_columns_align_in_any_script() -> None:
    """A wide character takes two places, a combining one none."""
    rows = [["語", "a", "1"], ["ab", "手話", "12"], ["e\u0301", "bcd", "3"]]
    assert columns(rows, right=[2]) == ["語  a      1", "ab  手話  12", "e\u0301   bcd    3"]
    assert len({width(line) for line in columns(rows, right=[2])}) == 1


def test_header() -> None:
    """What is about to happen, sealed signers included."""
    assert header(STARTED) == [
        "study    手話: どの設定がよいか？",
        "data     data/手話: 1,250 words",
        "signers  2 train (1,234 clips), 1 validate (56 clips), 1 sealed for the test",
        "device   cpu, storage sqlite:///runs/studies.db",
        "target   1,000 finished trials, 0 so far",
    ]
    assert header(replace(STARTED, workers=4))[3] == "device   cpu, 4 workers, storage sqlite:///runs/studies.db"


def test_table() -> None:
    """Columns hold their places, and the default study fits into 80."""
    table = TrialTable(["label_smoothing", "lr", "dropout"])
    pruned = finished_trial(trial=12, state="pruned", is_best=False, epochs=11, values={"val_loss": 2.5})
    failed = finished_trial(trial=9999, state="failed", values={}, val_top1=None, is_best=False, epochs=0, reason="nan")
    lines = [table.head(), table.row(finished_trial()), table.row(pruned), table.row(failed)]
    assert lines == [
        " trial state    val_loss   top1 epochs   time label_smoothing      lr dropout",
        "*    3 complete   1.2500 0.5000     50  2m08s            0.25 8.1e-04     0.1",
        "    12 pruned     2.5000 0.5000     11  2m08s            0.25 8.1e-04     0.1",
        "  9999 failed          -      -      0  2m08s            0.25 8.1e-04     0.1  nan",
    ]
    assert all(width(line) <= 80 for line in lines[:3])


def test_table_with_names_of_any_script() -> None:
    """A wide value does not move the columns after it."""
    table = TrialTable(["手話の設定", "lr"])
    lines = [table.head(), table.row(finished_trial(params={"手話の設定": "強", "lr": 0.5}))]
    assert width(lines[0]) == width(lines[1])


def test_footer() -> None:
    """The best beside the baseline, a warning, and the next command."""
    assert footer(finished_run()) == [
        "",
        "10 of 10 trials finished (7 complete, 3 pruned, 1 failed), 1h02m this time",
        "best     trial 3: val_loss 1.2500, top1 0.5000 at epoch 17",
        "         label_smoothing 0.25, lr 8.1e-04, dropout 0.1",
        "baseline trial 0: val_loss 1.5000, top1 0.2500 at epoch 50",
        "         label_smoothing 0, lr 3.0e-04, dropout 0.1",
        "The best of many trials is partly luck: confirm it with fresh seeds before you believe the gain.",
        "next     python -m search confirm mine",
        "         python -m search export mine --output best.yaml",
        "         python -m search dashboard mine",
    ]


def test_footers_of_other_ends() -> None:
    """Stopped, unbeaten, and without any result."""
    assert footer(finished_run(stopped_by="SIGINT"))[-1] == "         label_smoothing 0, lr 3.0e-04, dropout 0.1"
    assert footer(finished_run(best=BASELINE))[4] == "         this is the baseline: nothing has beaten it"
    nothing = footer(finished_run(best=None, baseline=None, finished=0))
    assert nothing[2:] == ["best     none: no trial has trained to its end", "baseline not finished yet"]


def test_next_commands_name_the_storage() -> None:
    """A study that lies elsewhere is found by the commands that are printed."""
    lines = footer(finished_run(), "sqlite:///my place/x.db")
    assert lines[-3] == "next     python -m search confirm mine --storage 'sqlite:///my place/x.db'"
    assert lines[-2] == "         python -m search export mine --storage 'sqlite:///my place/x.db' --output best.yaml"
    assert lines[-1] == "         python -m search dashboard mine --storage 'sqlite:///my place/x.db'"


def test_plain_screen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One line a trial on stderr, an epoch only after a quiet minute, the end on stdout."""
    now = [0.0]
    monkeypatch.setattr("search.console.time.monotonic", lambda: now[0])
    show = PlainScreen()
    show(STARTED)
    capsys.readouterr()
    show(TrialStarted(3, PARAMS, 50))
    show(EpochFinished(3, RECORD, 3))
    now[0] = 61.0
    show(EpochFinished(3, RECORD, 3))
    show(EpochFinished(3, RECORD, 3))
    show(TrialStarted(4, PARAMS, 50, done=7, remark="it goes on after epoch 7"))
    show(WorkerDied(4, "it was ended by SIGKILL (out of memory?)", 1, 3))
    show(Notice("2 signers in all: no test part"))
    show(finished_trial())
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "trial 3: epoch 3, val_loss 1.2500, top1 0.5000",
        "trial 4 was cut off: it goes on after epoch 7",
        "the worker of trial 4 died: it was ended by SIGKILL (out of memory?); another goes on with it (1 of 3)",
        "2 signers in all: no test part",
        "*    3 complete   1.2500 0.5000     50  2m08s            0.25 8.1e-04     0.1",
    ]
    show(finished_run())
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out.splitlines() == footer(finished_run())


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Each event is a JSON object on a line of its own, with the schema, in the text's own script."""
    for event in (
        STARTED,
        Notice("手"),
        TrialStarted(3, PARAMS, 50),
        EpochFinished(3, RECORD, 3),
        finished_trial(),
        finished_run(),
    ):
        json_lines(event)
    shown = capsys.readouterr().out
    events = [json.loads(line) for line in shown.splitlines()]
    assert [event["event"] for event in events] == [
        "run_started",
        "notice",
        "trial_started",
        "epoch_finished",
        "trial_finished",
        "run_finished",
    ]
    assert {event["schema"] for event in events} == {1}
    assert events[3]["record"]["val_loss"] == 1.25
    assert "手話" in shown


@pytest.mark.parametrize("variable", ["CI", "TERM"])
def test_the_right_screen(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A live view on a terminal only, and never where it is not wanted."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(screen(as_json=False, progress=True), LiveScreen)
    assert isinstance(screen(as_json=False, progress=False), PlainScreen)
    assert screen(as_json=True, progress=True) is json_lines
    monkeypatch.setenv(variable, "dumb")
    assert isinstance(screen(as_json=False, progress=True), PlainScreen)


def test_live_screen(capsys: pytest.CaptureFixture[str]) -> None:
    """Finished trials scroll by, and the footer comes last, on stdout. Each trial in training has a bar of its own."""
    show = LiveScreen()
    for event in (STARTED, TrialStarted(3, PARAMS, 50), TrialStarted(4, PARAMS, 50), EpochFinished(3, RECORD, 3)):
        show(event)
    assert sorted(show._bars) == [3, 4]
    show(WorkerDied(3, "it was ended by SIGKILL", 1, 3))
    show(TrialStarted(3, PARAMS, 50, done=3, remark="it goes on after epoch 3"))
    show(finished_trial())
    assert sorted(show._bars) == [4]
    show(finished_run())
    show.close()
    shown = capsys.readouterr()
    assert "*    3 complete   1.2500 0.5000     50  2m08s            0.25 8.1e-04     0.1\n" in shown.err
    assert "trial 3 was cut off: it goes on after epoch 3\n" in shown.err
    assert shown.out.splitlines() == footer(finished_run())
