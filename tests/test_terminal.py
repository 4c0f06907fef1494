"""What a whole search looks like, on screens of several widths and on a pipe, letter by letter.

The golden files under tests/golden are written anew with

    REWRITE_GOLDEN=1 python -m pytest tests/test_terminal.py
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial
from rich.console import Console

from data_utils.wording import width
from model.record import EpochRecord
from search.commands.bars import Bars
from search.commands.console import line_width
from search.commands.run_text import TrialTable, run_started_lines
from search.commands.screens import LiveScreen, PlainScreen, replacing_lines
from search.events import (
    DataPrepared,
    EpochFinished,
    Event,
    Notice,
    RunFinished,
    RunStarted,
    TrialFinished,
    TrialStarted,
    TrialSummary,
    WorkerDied,
)
from search.running.summary import _noise
from search.wording import labeled, truncate, wrap_line

GOLDEN = Path(__file__).parent / "golden"
SPACE = {
    "label_smoothing": "0.0 .. 0.6",
    "lr": "1e-05 .. 0.01 log",
    "scale": "手の大きさ | 肩の幅で割る",
    "dropout": "0.0 .. 0.5",
    "width": "16 .. 128 step 16",
    "layers": "1 .. 4",
    "heads": "1 | 2 | 4 | 8",
    "activation": "relu | gelu | silu",
    "optimizer": "adam | adamw",
    "weight_decay": "0.0001 .. 0.1 log when train.optimizer is adamw",
}
PARAMS: dict[str, object] = {
    "label_smoothing": 0.25,
    "lr": 8.1e-4,
    "scale": "肩の幅で割る",
    "dropout": 0.1,
    "width": 64,
    "layers": 2,
    "heads": 8,
    "activation": "relu",
    "optimizer": "adamw",
    "weight_decay": 0.001,
}
STARTED = RunStarted(
    study="手話の探索",
    about="どの設定がよいか？見たことのない話者の手話を読むための、学習率とモデルの大きさを調べます。",
    data="/home/someone/datasets/手話/asl-signs-selected",
    words=250,
    parts={"train": tuple("abcdefghijklm"), "validation": ("n", "o", "p", "q"), "test": ("r", "s", "t", "u")},
    clips={"train": 61234, "validation": 12345},
    device="cuda:0",
    place="cuda:0, 2 workers",
    workers=2,
    storage="sqlite:////home/someone/experiments/2026/studies.db",
    runs="runs",
    finished=0,
    target=20,
    epochs=10,
    space=SPACE,
    objectives=("val_loss",),
    folds=0,
    trainings=1,
    run="20261124T120000Z-7-ab12",
)
REASON = (
    "CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 7.93 GiB total capacity). 学習に使うメモリが足りません。"
    "バッチを小さくしてください。"
)


class Clock:
    """A clock that advances only when `now` is changed."""

    now = 100.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


REST_OF_A_BAR = "\x1b[38;5;237m"
"""The color of the part of a progress bar that is still to come."""


class Terminal:
    """What a terminal without colors would show. It fails if a line is written beyond its width."""

    def __init__(self, width: int) -> None:
        self.width, self.lines, self.row, self.column = width, [""], 0, 0
        self.shows_cursor, self.is_blank = True, False

    def feed(self, text: str) -> Terminal:
        """Processes text and control codes."""
        for code, up, char in re.findall(r"(\x1b\[[?0-9;]*[mKhl])|\x1b\[(\d*)A|([^\x1b])", text):
            if up or not (code or char):
                self.row -= int(up or 1)
                assert self.row >= 0
            elif char:
                self._write(char)
            elif code == "\x1b[2K":
                self.lines[self.row] = ""
            elif code.endswith("m"):
                self.is_blank = code == REST_OF_A_BAR
            elif code.startswith("\x1b[?25"):
                self.shows_cursor = code.endswith("h")
        return self

    def _write(self, char: str) -> None:
        if char == "\r":
            self.column = 0
        elif char == "\n":
            self.row, self.column = self.row + 1, 0
            self.lines += [""] * (self.row + 1 - len(self.lines))
        else:
            assert width(self.lines[self.row]) == self.column, "a line is written over"
            self.lines[self.row] += " " if self.is_blank else char
            self.column += width(char)
            assert self.column <= self.width, f"wider than {self.width}: {self.lines[self.row]}"

    def shown(self) -> str:
        """The lines, without empty ones at the end."""
        return "\n".join(line.rstrip() for line in self.lines).rstrip() + "\n"


def recording_console(width: int) -> Console:
    """A color terminal of fixed width that records its output."""
    return Console(file=io.StringIO(), force_terminal=True, width=width, height=50, highlight=False, legacy_windows=False)


def output_of(console: Console) -> str:
    """Everything that was written to such a terminal."""
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def epoch(trial: int, step: int, loss: float) -> EpochFinished:
    """An epoch with this loss."""
    record = EpochRecord(
        epoch=step,
        train_loss=loss,
        val_loss=loss,
        val_top1=0.5,
        val_top5=0.75,
        val_ece=0.125,
        val_ece_mass=0.125,
        val_loss_ts=loss,
        temperature=1.5,
        seconds=2.0,
    )
    return EpochFinished(trial, record, step)


def finished_trial(trial: int, finished: int, **changed: object) -> TrialFinished:
    """A complete trial, with the given fields changed."""
    given = {
        "state": "complete",
        "params": PARAMS,
        "value": 1.25,
        "values": {"val_loss": 1.25},
        "val_top1": 0.5,
        "epochs": 10,
        "seconds": 20.0,
        "target": 20,
    }
    return TrialFinished(trial=trial, finished=finished, **{**given, **changed})  # type: ignore[arg-type]


def script() -> Iterator[tuple[float, Event | str]]:
    """The events of a search, each after some seconds; a text marks a moment to compare."""
    yield 0, Notice("2 clips of the validation signers have no word that is trained, and are left out: 手話 12, 手話 13")
    yield 0, DataPrepared(10, 100)
    yield 20, DataPrepared(50, 100)
    yield 0, "while the data is prepared"
    yield 20, DataPrepared(100, 100)
    yield 0, STARTED
    yield 0, TrialStarted(0, PARAMS, 10)
    yield 0, TrialStarted(1, PARAMS, 10)
    for step in range(1, 6):
        yield 2, epoch(0, step, 2.5 - step / 10)
    yield 0, epoch(1, 1, 2.75)
    yield 0, "after a few epochs"
    yield 10, finished_trial(0, 1, is_best=True)
    yield 0, TrialStarted(2, PARAMS, 10)
    yield 5, finished_trial(1, 2, state="pruned", epochs=3, values={"val_loss": 2.5}, value=2.5)
    yield 0, TrialStarted(3, PARAMS, 10, 4, "resuming after epoch 4")
    yield 4, epoch(3, 5, 1.125)
    yield 0, WorkerDied(3, "it was killed by SIGKILL (out of memory?)", 1, 3)
    yield 0, TrialStarted(3, PARAMS, 10, 5, "resuming after epoch 5")
    yield 6, finished_trial(2, 2, state="failed", value=None, values={}, val_top1=None, epochs=0, seconds=6, reason=REASON)
    yield 0, TrialStarted(4, PARAMS, 10)
    yield 2, epoch(4, 1, 0.75)
    better = {**PARAMS, "scale": "手の大きさ", "lr": 0.01, "optimizer": "adam"}
    better.pop("weight_decay")
    yield 8, finished_trial(3, 3, is_best=True, params=better, value=0.4321, values={"val_loss": 0.4321}, seconds=3725)
    yield 0, "after the best"
    best = TrialSummary(3, better, 0.4321, 0.875, 9, {"val_loss": 0.4321})
    baseline = TrialSummary(0, PARAMS, 1.25, 0.5, 10, {"val_loss": 1.25})
    yield (
        0,
        RunFinished(
            study=STARTED.study,
            finished=3,
            target=20,
            counts={"complete": 2, "pruned": 1, "failed": 1},
            best=best,
            baseline=baseline,
            front=(),
            edges=("lr 0.01 lies at the upper edge of its range 1e-05 .. 0.01 log",),
            noise=0.0321,
            seconds=75,
            ended_by="the last 12 trials have gained nothing beyond the noise (0.032)",
        ),
    )


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment variables of the user do not affect the output."""
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def compare(name: str, text: str) -> None:
    """Compares a text with the golden file, exactly."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("REWRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("no_color", [False, True])
@pytest.mark.parametrize("columns", [60, 80, 120])
def test_live_screen_at_several_moments(
    columns: int, no_color: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The live screen matches the golden text at every moment and at the end; NO_COLOR removes only the colors."""
    monkeypatch.setenv("COLUMNS", str(columns))
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    clock, console = Clock(), recording_console(columns)
    show, looks = LiveScreen(console, clock, auto_refresh=False), []
    for seconds, event in script():
        clock.now += seconds
        if isinstance(event, str):
            show._bars.refresh()
            looks.append(f"-- {event}\n{Terminal(columns).feed(output_of(console)).shown()}")
        else:
            show(event)
    terminal = Terminal(columns).feed(output_of(console))
    assert terminal.shows_cursor
    looks.append(f"-- in the end\n{terminal.shown()}")
    compare(f"terminal-{columns}", "\n".join([*looks, f"-- on stdout\n{capsys.readouterr().out}"]))
    assert ("\x1b[32m━" in output_of(console)) != no_color
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9][0-9;]*m", output_of(console))) != no_color


@pytest.mark.parametrize("columns", [None, 60, 80, 120])
def test_plain_screen_on_a_pipe(
    columns: int | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plain screen matches the golden text; on a pipe all parameters have a column. There are no control codes."""
    if columns is not None:
        monkeypatch.setenv("COLUMNS", str(columns))
    show = PlainScreen()
    for _, event in script():
        if not isinstance(event, str):
            show(event)
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err
    compare(f"plain-{columns or 'pipe'}", f"-- on stderr\n{shown.err}\n-- on stdout\n{shown.out}")


@pytest.mark.parametrize("name", [path.stem for path in sorted(GOLDEN.glob("*-[0-9]*.txt"))])
def test_golden_lines_fit(name: str) -> None:
    """Only commands exceed the width: they stay on one line so that they can be copied."""
    lines = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    assert all(width(line) <= int(name.split("-")[1]) for line in lines if "islr-search" not in line)


LETTERS = st.text(st.sampled_from("abc_.手話設定、。（）ー|e\u0301"), min_size=1, max_size=30)
WORDS = st.text(st.sampled_from("abc 手話設定、。（）ーe\u0301\u200b-/"), max_size=200)
VALUES = st.one_of(st.integers(-(10**9), 10**9), st.floats(allow_nan=False), LETTERS, st.booleans())


@settings(deadline=None)
@given(
    space=st.dictionaries(LETTERS, LETTERS, max_size=12),
    objectives=st.lists(st.sampled_from(["val_loss", "parameters", "val_loss_ts_mean_last_5"]), min_size=1, unique=True),
    columns=st.integers(40, 140),
    data=st.data(),
)
def test_table_rows_fit(space: dict[str, str], objectives: list[str], columns: int, data: st.DataObject) -> None:
    """With any names, choices and values, rows fit and parameters stand below their names."""
    params = {name: data.draw(VALUES) for name in space}
    trial = finished_trial(7, 3, params=params, values=dict.fromkeys(objectives, 1.25), reason=data.draw(WORDS))
    table = TrialTable(space, objectives, columns)
    head, row, *reason = [table.head(), *table.rows(trial)]
    assert all(width(line) <= columns for line in (head, row, *reason))
    if max(width(head), width(row)) < columns - 2:
        assert width(re.sub(r" \+\d+ more$", "", head)) == width(row)
    whole = TrialTable(space, objectives)
    assert whole.head().count("more") == "".join(space).count("more")
    assert len(whole.rows(replace(trial, reason=""))) == 1


@pytest.mark.parametrize(("columns", "shown"), [(60, 1), (80, 2), (120, 6), (300, 10)])
def test_as_many_parameters_as_fit(columns: int, shown: int) -> None:
    """Parameters appear in the order of the space; the head counts the hidden ones."""
    head = TrialTable(SPACE, max_width=columns).head()
    assert sum(name in head or name[:10] in head for name in SPACE) == shown
    assert head.endswith(f"+{10 - shown} more") or shown == 10


@settings(deadline=None)
@given(text=WORDS, columns=st.integers(20, 120))
def test_wrapping_keeps_the_text(text: str, columns: int) -> None:
    """A wrapped text fits the width and loses nothing."""
    lines = labeled("label", text, columns)
    assert all(width(line) <= columns for line in lines)
    assert "".join("".join(line[9:].split()) for line in lines) == "".join(text.split())


@settings(deadline=None)
@given(text=WORDS, columns=st.integers(2, 60))
def test_truncated_texts(text: str, columns: int) -> None:
    """A truncated text fits the width; a short text is unchanged."""
    assert width(truncate(text, columns)) <= columns
    assert truncate(text, 1000) == text


def test_japanese_line_breaks() -> None:
    """Lines break between any two characters, but not before a full stop or after an opening bracket."""
    assert labeled("study", "手話：どの設定がよいか。", 21) == ["study    手話：どの設", "         定がよいか。"]
    assert labeled("study", "手話の設定。どれ（よい）", 20) == ["study    手話の設", "         定。どれ", "         （よい）"]
    assert labeled("study", "ーーーーー", 14) == ["study    ーー", "         ーー", "         ー"]
    assert labeled("study", "ab の設定 of lr", 17) == ["study    ab の設", "         定 of lr"]


def test_continuation_lines_are_indented() -> None:
    """Continuation lines stand below the text of a labeled line."""
    assert wrap_line("running  trial 3: in training", 20) == ["running  trial 3: in", "         training"]
    assert wrap_line("    a b c d e f", 12) == ["    a b c d", "      e f"]
    assert wrap_line("as it is  here", 20) == ["as it is  here"]


def test_line_width_of_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe has no width unless COLUMNS is a number."""
    assert line_width(io.StringIO()) is None
    monkeypatch.setenv("COLUMNS", "97")
    assert line_width(io.StringIO()) == 97
    monkeypatch.setenv("COLUMNS", "wide")
    assert line_width(io.StringIO()) is None


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_start_of_a_run_fits(columns: int) -> None:
    """All lines fit, and each begins with a label or its indentation."""
    lines = run_started_lines(replace(STARTED, folds=5, trainings=15), columns)
    assert all(width(line) <= columns for line in lines)
    assert all(re.match(r"[a-z ]{8} \S", line) for line in lines)


def bars_of(clock: Clock, finished: int = 0, target: int = 10, **changed: object) -> Bars:
    """Bars of a run that has just started."""
    bars = Bars(Console(file=io.StringIO(), no_color=True), clock, auto_refresh=False)
    bars.show(replace(STARTED, finished=finished, target=target, **changed))  # type: ignore[arg-type]
    return bars


def rows(bars: Bars, columns: int = 120) -> list[str]:
    """The bars as a terminal of this width shows them."""
    bars.console.width = columns
    with bars.console.capture() as captured:
        bars.console.print(bars)
    return captured.get().splitlines()


def texts(bars: Bars) -> list[str]:
    """The text behind each bar, with single spaces."""
    return [" ".join(row[re.search(r"[\d,]+/", row).start() :].split()) for row in rows(bars)]  # type: ignore[union-attr]


def test_time_left() -> None:
    """A trial's time follows from its own steps, the study's from the trials of this run, running ones in part."""
    clock = Clock()
    bars = bars_of(clock)
    clock.now += 1000  # what preparing took says nothing about trials
    bars.show(TrialStarted(0, PARAMS, 10))
    assert texts(bars) == ["0/10", "0/10"]
    clock.now += 20
    bars.show(epoch(0, 1, 1.5))
    assert texts(bars) == ["0/10 ~33m00s left", "1/10 val_loss 1.5000 top1 0.5000 ~3m00s left"]
    clock.now += 60  # nothing happens: the clock runs down
    assert texts(bars) == ["0/10 ~32m00s left", "1/10 val_loss 1.5000 top1 0.5000 ~2m00s left"]
    clock.now += 20
    bars.show(finished_trial(0, 1, target=10, is_best=True))
    assert texts(bars) == ["1/10 best 1.2500 (trial 0) ~15m00s left"]
    clock.now += 900
    bars.show(finished_trial(1, 10, target=10))
    assert texts(bars) == ["10/10 best 1.2500 (trial 0)"]


def test_time_left_ignores_earlier_runs() -> None:
    """Trials and epochs of earlier runs do not count as work of this run; nor do failed trials."""
    clock = Clock()
    bars = bars_of(clock, finished=90, target=100)
    bars.show(TrialStarted(90, PARAMS, 10, 5, "resuming after epoch 5"))
    assert texts(bars) == ["90/100", "5/10"]
    clock.now += 10
    bars.show(epoch(90, 6, 1.5))
    assert texts(bars)[0].endswith("~16m00s left")  # 10 s for a tenth of a trial, 9.4 to go: 940 s
    assert texts(bars)[1].endswith("~40s left")
    bars.show(TrialStarted(90, PARAMS, 10, 6, "resuming after epoch 6"))  # its worker died
    clock.now += 40
    bars.show(finished_trial(90, 91, target=100))
    assert texts(bars)[0] == "91/100 ~15m00s left"  # 50 s for half a trial, 9 to go: 900 s
    bars.show(TrialStarted(91, PARAMS, 10, 9, "resuming after epoch 9"))
    bars.show(finished_trial(91, 91, target=100, state="failed"))
    assert texts(bars)[0] == "91/100 ~15m00s left"


def test_best_of_a_resumed_study() -> None:
    """The best trial of earlier runs is shown until a better one finishes."""
    bars = bars_of(Clock(), finished=5, target=10, best=TrialSummary(3, value=0.4321))
    assert "best 0.4321 (trial 3)" in texts(bars)[0]
    bars.show(finished_trial(6, 6, target=10, is_best=True, values={"val_loss": 0.4}))
    assert "best 0.4000 (trial 6)" in texts(bars)[0]


def test_best_of_several_objectives() -> None:
    """Only a trial that improves the first objective replaces the best one."""
    bars = bars_of(Clock(), objectives=("val_loss", "parameters"))
    bars.show(finished_trial(0, 1, is_best=True, values={"val_loss": 0.5, "parameters": 9000.0}))
    bars.show(finished_trial(1, 2, is_best=True, values={"val_loss": 0.75, "parameters": 10.0}))
    bars.show(finished_trial(2, 3, is_best=False, values={"val_loss": 0.25, "parameters": 10.0}))
    assert "best 0.5000 (trial 0)" in texts(bars)[0]


@pytest.mark.parametrize("columns", range(20, 130, 3))
def test_bars_never_fill_the_line(columns: int) -> None:
    """At any width and with large numbers, each bar takes one row that is narrower than the terminal."""
    clock = Clock()
    bars = bars_of(clock, finished=99_000, target=100_000)
    for trial in (1, 99_999):
        bars.show(TrialStarted(trial, PARAMS, 1000))
    clock.now += 3600
    bars.show(epoch(99_999, 1, 12345.6789))
    bars.show(finished_trial(1, 99_001, target=100_000, is_best=True))
    shown = rows(bars, columns)
    assert [row[:6] for row in shown] == ["trials", "trial "]
    assert all(width(row.rstrip()) < columns for row in shown)
    assert columns < 80 or re.search("━{4}", shown[0])


def test_nothing_moves_when_a_trial_ends() -> None:
    """The columns stay in place when a trial ends."""
    bars = bars_of(Clock())
    bars.show(TrialStarted(0, PARAMS, 10))
    bars.show(epoch(0, 1, 1.5))
    before = rows(bars, 80)[0].index("0/10")
    bars.show(finished_trial(0, 1, target=10))
    assert rows(bars, 80)[0].index("1/10") == before


def test_terminal_made_narrower() -> None:
    """Later lines fit the new width, below a new table head."""
    console, clock = recording_console(120), Clock()
    show = LiveScreen(console, clock, auto_refresh=False)
    show(STARTED)
    show(TrialStarted(0, PARAMS, 10))
    show(finished_trial(0, 1))
    before = len(output_of(console))
    console.width = 60
    show(finished_trial(1, 2, reason=REASON))
    show(finished_trial(2, 3))
    show._bars.refresh()
    lines = re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", output_of(console)[before:]).replace("\r", "\n").split("\n")
    assert all(width(line) <= 60 for line in lines)
    assert sum("+9 more" in line for line in lines) == 1
    show.close()


def test_closing_restores_the_terminal() -> None:
    """After closing, the cursor is visible and the bars are gone; closing again does no harm."""
    console = recording_console(80)
    show = LiveScreen(console, Clock(), auto_refresh=False)
    for event in (STARTED, TrialStarted(0, PARAMS, 10), epoch(0, 1, 1.5)):
        show(event)
    show._bars.refresh()
    before = Terminal(80).feed(output_of(console))
    assert not before.shows_cursor
    assert "━" in before.shown()
    show.close()
    show.close()
    after = Terminal(80).feed(output_of(console))
    assert after.shows_cursor
    assert "━" not in after.shown()
    assert after.column == 0


@pytest.mark.parametrize("columns", [60, 80])
def test_replacing_lines(columns: int) -> None:
    """Long lines are wrapped, and new lines replace those before."""
    console = recording_console(columns)
    many = ", ".join(f"{name} {value}" for name, value in PARAMS.items())
    with replacing_lines(console) as show:
        show([f"study    {STARTED.study}: {STARTED.about}", f"         {many}", f"failed   trial 3: {REASON}"])
        first = "".join(Terminal(columns).feed(output_of(console)).shown().split())
        assert "".join(f"{STARTED.about}{many}failed   trial 3: {REASON}".split()) in first
        show([f"study    {STARTED.study}: {STARTED.about}", "now      a run is working on it"])
    terminal = Terminal(columns).feed(output_of(console))
    assert terminal.shows_cursor
    lines = terminal.shown().splitlines()
    assert lines[0].startswith("study    手話の探索: どの設定がよいか？")
    assert lines[-1] == "now      a run is working on it"
    assert "failed" not in terminal.shown()
    assert all(line.startswith("         ") for line in lines[1:-1])


def test_replacing_lines_on_a_dumb_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines follow each other."""
    monkeypatch.setenv("TERM", "dumb")
    with replacing_lines(recording_console(80)) as show:
        show(["one"])
        show(["two"])
    assert capsys.readouterr().out == "one\ntwo\n"


def trial_with_curve(curve: Mapping[int, float]) -> optuna.trial.FrozenTrial:
    """A complete trial with this learning curve."""
    return create_trial(
        state=TrialState.COMPLETE,
        value=min(curve.values()),
        intermediate_values=dict(curve),
        user_attrs={"result": "{}"},
    )


def test_noise_of_a_run() -> None:
    """The noise comes from the best trial's curve; it is None if the curve is too short."""
    trial = trial_with_curve({1: 1.0, 2: 0.5, 3: 0.7, 4: 0.4})
    assert _noise([trial], trial) == pytest.approx(0.2082, abs=1e-4)  # steps -0.5, 0.2, -0.3
    flat = trial_with_curve({1: 1.0})
    assert _noise([flat], flat) is None
    assert _noise([], None) is None
