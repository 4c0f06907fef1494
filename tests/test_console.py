"""What people and programs see, letter by letter."""

from __future__ import annotations

import json
import re
import statistics
import sys
from dataclasses import replace

import numpy as np
import pytest

from data_utils.wording import align, format_duration, width
from model.record import EpochRecord
from search.commands.console import print_summary
from search.commands.run_text import TrialTable, run_finished_lines, run_started_lines
from search.commands.screens import LiveScreen, PlainScreen, choose_screen, print_json_line
from search.evaluation.confirm.allocation import Decision
from search.evaluation.confirm.evidence import compare_candidates
from search.evaluation.confirm.text import confirm_footer, confirmed_answer, signers_text
from search.evaluation.test_part.text import opening_lines
from search.events import (
    ConfirmFinished,
    EpochFinished,
    Notice,
    RunFinished,
    RunStarted,
    TrialFinished,
    TrialStarted,
    TrialSummary,
    WorkerDied,
)
from search.study.belief import Belief
from search.study.confirmed import Candidate, Confirmed, SignerSpread
from search.study.openings import Opening, SettingScore, SignerAccuracy
from search.wording import Strong, format_number

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
    runs="runs",
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
    """A complete trial, with the given fields changed."""
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
    """A run that met its target, with the given fields changed."""
    given = {
        "study": "mine",
        "finished": 10,
        "target": 10,
        "counts": {"complete": 7, "pruned": 3, "failed": 1},
        "best": BEST,
        "baseline": BASELINE,
        "front": (),
        "edges": (),
        "noise": None,
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
    """Numbers have four digits, small ones an exponent, counts commas."""
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (128, "2m08s"), (3599.6, "1h00m"), (3725, "1h02m"), (360_000, "100h00m")],
)
def test_durations(seconds: float, text: str) -> None:
    """Durations have at most two units, and never sixty of one."""
    assert format_duration(seconds) == text


def test_columns_align_in_any_script() -> None:
    """Wide characters take two columns, combining ones none."""
    rows = [["語", "a", "1"], ["ab", "手話", "12"], ["e\u0301", "bcd", "3"]]
    assert align(rows, right=[2]) == ["語  a      1", "ab  手話  12", "e\u0301   bcd    3"]
    assert len({width(line) for line in align(rows, right=[2])}) == 1


def test_start_of_a_run() -> None:
    """The first lines name study, data, signers (the sealed ones too), device and target."""
    assert run_started_lines(STARTED) == [
        "study    手話: どの設定がよいか？",
        "data     data/手話: 1,250 words",
        "signers  2 train (1,234 clips), 1 validate (56 clips), 1 sealed for the test",
        "device   cpu, storage sqlite:///runs/studies.db",
        "target   1,000 finished trials, 0 so far",
    ]
    assert (
        run_started_lines(replace(STARTED, place="cpu, 4 workers"))[3]
        == "device   cpu, 4 workers, storage sqlite:///runs/studies.db"
    )


def test_table() -> None:
    """Columns are aligned, the default study fits into 80, and a failure's reason stands below its row."""
    table = TrialTable(STARTED.space)
    pruned = finished_trial(trial=12, state="pruned", is_best=False, epochs=11, values={"val_loss": 2.5})
    failed = finished_trial(trial=9999, state="failed", values={}, val_top1=None, is_best=False, epochs=0, reason="nan")
    lines = [table.head(), *table.rows(finished_trial()), *table.rows(pruned), *table.rows(failed)]
    assert lines == [
        " trial state    val_loss   top1 epochs   time label_smoothing      lr dropout",
        "*    3 complete   1.2500 0.5000     50  2m08s            0.25 8.1e-04     0.1",
        "    12 pruned     2.5000 0.5000     11  2m08s            0.25 8.1e-04     0.1",
        "  9999 failed          -      -      0  2m08s            0.25 8.1e-04     0.1",
        "         nan",
    ]
    assert TrialTable(STARTED.space, max_width=80).head() == lines[0]
    assert all(width(line) <= 80 for line in lines)


def test_table_with_wide_characters() -> None:
    """Wide values do not move the columns after them."""
    table = TrialTable({"手話の設定": "弱い | とても強い設定 when lr is 1", "lr": "0.1 .. 1.0"})
    head, row = table.head(), table.rows(finished_trial(params={"手話の設定": "とても強い設定", "lr": 0.5}))[0]
    assert head.endswith("     手話の設定      lr")
    assert row.endswith(" とても強い設定     0.5")
    assert width(head) == width(row)


def test_end_of_a_run() -> None:
    """The best comes first, in bold; then the baseline, a warning of luck, the count, and the next commands."""
    assert [line for line in run_finished_lines(finished_run()) if isinstance(line, Strong)] == [
        "best     trial 3: val_loss 1.2500, top1 0.5000 at epoch 17",
        "         label_smoothing 0.25, lr 8.1e-04, dropout 0.1",
    ]
    assert run_finished_lines(finished_run()) == [
        "",
        "best     trial 3: val_loss 1.2500, top1 0.5000 at epoch 17",
        "         label_smoothing 0.25, lr 8.1e-04, dropout 0.1",
        "baseline trial 0: val_loss 1.5000, top1 0.2500 at epoch 50",
        "         label_smoothing 0, lr 3.0e-04, dropout 0.1",
        "luck     The best of many trials is partly luck: confirm it with fresh seeds before you believe the gain.",
        "",
        "search   10 of 10 trials finished (7 complete, 3 pruned, 1 failed), 1h02m in this run",
        "next     islr-search confirm mine",
        "         islr-search export mine --output best.yaml",
        "         islr-search dashboard mine",
    ]


@pytest.mark.parametrize(("terminal", "no_color", "is_bold"), [(True, "", True), (True, "1", False), (False, "", False)])
def test_the_answer_is_bold_on_a_terminal(
    terminal: bool, no_color: str, is_bold: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bold only where a terminal shows it and the user has not refused it; elsewhere the text is the same."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", no_color)
    print_summary(*run_finished_lines(finished_run()))
    shown = capsys.readouterr().out
    assert re.findall(r"\x1b\[1m(\w*) .*\x1b\[0m", shown) == (["best", ""] if is_bold else [])
    assert re.sub(r"\x1b\[\dm", "", shown).splitlines() == run_finished_lines(finished_run())


def test_end_of_a_run_with_warnings() -> None:
    """Edges of the space and noise are reported within the width; noise is not if the baseline is the best."""
    edge = "label_smoothing 0.6 lies at the high edge of its range 0.0 .. 0.6"
    lines = run_finished_lines(finished_run(edges=(edge,), noise=0.00004), max_width=80)
    assert lines[5:13] == [
        "noise    the best is 0.2500 below the baseline; another seed alone changes a",
        "         trial's value by about 4.0e-05 (a rough estimate)",
        "luck     The best of many trials is partly luck: confirm it with fresh seeds",
        "         before you believe the gain.",
        "",
        "search   10 of 10 trials finished (7 complete, 3 pruned, 1 failed), 1h02m in",
        "         this run",
        "edge     label_smoothing 0.6 lies at the high edge of its range 0.0 .. 0.6:",
    ]
    assert not any(line.startswith(("noise", "luck")) for line in run_finished_lines(finished_run(best=BASELINE, noise=0.1)))


def test_other_ends_of_a_run() -> None:
    """A stopped run, one whose best is the baseline, and one without results end with shorter summaries."""
    stopped = run_finished_lines(finished_run(stopped_by="SIGINT"))
    assert stopped[-3] == "         label_smoothing 0, lr 3.0e-04, dropout 0.1"
    assert stopped[-1].startswith("search   10 of 10 trials finished")
    assert run_finished_lines(finished_run(best=BASELINE))[3] == "         this is the baseline: nothing has beaten it"
    nothing = run_finished_lines(finished_run(best=None, baseline=None, finished=0))
    assert nothing[1:3] == ["best     none: no trial is complete yet", "baseline none: it has not trained to its end"]


def test_next_commands_name_the_storage() -> None:
    """The printed commands find a study in another storage."""
    lines = run_finished_lines(finished_run(), "sqlite:///my place/x.db")
    assert lines[-3] == "next     islr-search confirm mine --storage 'sqlite:///my place/x.db'"
    assert lines[-2] == "         islr-search export mine --storage 'sqlite:///my place/x.db' --output best.yaml"
    assert lines[-1] == "         islr-search dashboard mine --storage 'sqlite:///my place/x.db'"


def confirmed(values: dict[int, dict[int, float | None]], measured: tuple[int, ...], best: int | None) -> Confirmed:
    """A confirmation of these values by trial and seed. The first two of five seeds choose."""
    candidates = [
        Candidate(trial=trial, params={"lr": 1e-3 * (trial + 1)}, searched=0.9 * (by_seed[1] or 1.0), parameters=1000)
        for trial, by_seed in values.items()
    ]
    known = sorted(trial for trial, by_seed in values.items() if None not in by_seed.values())
    mean_M = np.array([statistics.fmean(v for v in values[trial].values() if v is not None) for trial in known])
    belief = Belief(tuple(known), mean_M, 1e-3 * np.eye(len(known)), 0.05) if known else None
    found = compare_candidates(candidates, values, 5, Decision((), 0, measured, belief, best, 0.03, 0.025))
    spread = SignerSpread(signers=3, between_seeds=0.01, between_signers=0.12, error=0.07, change_error=0.02)
    objective = "val_loss"
    return Confirmed(
        time="2026-11-24T12:00:00+00:00",
        trials=50,
        objective=objective,
        sealed=1,
        signers=spread if known else None,
        found=found,
    )


def test_confirmation() -> None:
    """A confirmation's table, failures, recommendation with its reason, luck and next commands fit into 80 columns."""
    values: dict[int, dict[int, float | None]] = {
        0: {1: 1.1, 3: 1.1, 4: 1.2, 5: 1.0},
        12: {1: 0.5, 3: 0.5, 4: 0.52, 5: 0.51},
        7: {1: 0.51, 2: 0.53},
        30: {1: 4.0, 2: 4.15},
        9: {1: None},
    }
    kept = confirmed(values, (0, 12), 12)
    lines = confirm_footer(ConfirmFinished("mine", kept, 65.0), "sqlite:///x.db", "my runs")
    assert lines[:29] == [
        "",
        "use      trial 12: val_loss 0.5100 over 3 fresh seeds (95% interval 0.4852 to",
        "         0.5348)",
        "         lr 0.013",
        "verdict  better than the baseline: a change of -0.5900 (95% interval -0.8270 to",
        "         -0.3530), better with probability 0.996",
        "because  trials 12 and 7 are statistically tied; trial 12 has the lower",
        "         estimate; the chance that another one is better by more than 0.0250 is",
        "         3%",
        "luck     the search's best, 0.4500 of trial 12, is 0.0600 better than its mean",
        "         with fresh seeds",
        "noise    0.0630 between seeds on the same validation signers",
        "signers  standard deviation 0.1200 between 3 validation signers; others would",
        "         move the value by about ±0.0700 and the change by ±0.0200 (standard",
        "         errors, a guess from 3 signers); the intervals, over seeds alone, say",
        "         nothing about that",
        "",
        "trial  searched  estimate  seeds      mean      95%   change      95%  better",
        "  *12    0.4500    0.5075      3    0.5100  ±0.0248  -0.5900  ±0.2370  0.9957",
        "    7    0.4590    0.5200      2  (0.5200)",
        "   30    3.6000    4.0750      2  (4.0750)",
        "    9    0.9000         -      -         -        -        -        -       -",
        " base    0.9900    1.1000      3    1.1000  ±0.2484",
        "         val_loss, lower is better. estimate: the true value by all trainings",
        "         and nearby trials of the search; change: mean difference to the",
        "         baseline; better: probability of being better than it; in (): of the",
        "         seeds by which candidates were compared; the other seeds had no part in",
        "         the choice",
        "out      trial 9 failed with seed 1",
    ]
    assert [isinstance(line, Strong) for line in lines[:8]] == [False, True, True, True, True, True, False, False]
    assert lines[29].startswith("pairs")
    assert "cost     13 trainings with fresh seeds; this run took 1m05s" in lines
    assert "            7  0.3899       -  1.0000  -  1.0000" in lines
    assert lines[-2:] == [
        "next     islr-search test mine --storage sqlite:///x.db --runs 'my runs'",
        "         islr-search export mine --storage sqlite:///x.db --output best.yaml",
    ]
    assert all(width(line) <= 80 for line in lines[:-2])


def test_confirmation_of_the_baseline() -> None:
    """Where the baseline is best, it is said how far the best other setting is from it."""
    kept = confirmed({0: {1: 0.5, 3: 0.5, 4: 0.52, 5: 0.51}, 12: {1: 0.6, 3: 0.61, 4: 0.6, 5: 0.62}}, (0, 12), 0)
    text = " ".join(" ".join(confirmed_answer(kept)).split())
    assert "verdict the baseline is recommended: the best other setting, trial 12, is a change of +0.1000" in text
    assert "(95% interval +0.0570 to +0.1430)" in text


@pytest.mark.parametrize(
    ("signers", "error", "text"),
    [
        (None, None, "other validation signers would move the values further than other seeds do"),
        (1, None, "with one validation signer it cannot be known how far other signers would move the values"),
        (2, None, "how far other validation signers would move the values is not known for val_loss"),
        (
            2,
            0.2,
            "standard deviation 0.3000 between 2 validation signers; "
            "others would move the value by about ±0.2000 (standard errors, a guess from 2 signers)",
        ),
    ],
)
def test_other_signers(signers: int | None, error: float | None, text: str) -> None:
    """A confirmation says what is known of other signers, and that the intervals say nothing of them."""
    spread = None
    if signers is not None:
        between = None if error is None else 0.3
        spread = SignerSpread(signers=signers, between_seeds=0.01, between_signers=between, error=error, change_error=None)
    found = signers_text(replace(confirmed({0: {1: 0.5}}, (), None), signers=spread))
    assert found == f"{text}; the intervals, over seeds alone, say nothing about that"


def test_confirmation_without_a_recommendation() -> None:
    """Nothing is recommended if no training has completed."""
    kept = confirmed({0: {1: None}, 3: {1: None}}, (), None)
    assert confirmed_answer(kept) == [
        "use      none is recommended: no setting has a value for every seed that",
        "         measures",
    ]


def test_opening_of_the_test_part() -> None:
    """An opening shows when, by which version, how often, and all scores."""

    def score(trial: int, top1: float) -> SettingScore:
        rest = dict.fromkeys(("loss", "loss_sd", "loss_ts", "ece", "ece_ts", "ece_mass", "ece_mass_ts"), 0.25)
        signers = (SignerAccuracy(signer="花子", clips=4, top1=top1),)
        return SettingScore(trial=trial, seeds=2, top1=top1, top1_sd=0.1, temperature=1.5, signers=signers, **rest)

    look = Opening(
        time="2026-11-24T12:00:00+00:00",
        commit="islr-search 0.1.0",
        count=2,
        trial=7,
        signers=("花子",),
        clips=4,
        scores=(score(7, 0.75), score(0, 0.5)),
        gain=0.25,
        gain_low=-0.1,
        gain_high=0.5,
    )
    assert opening_lines(look) == [
        "sealed   1 signer, 4 clips, opened 2026-11-24 (opening 2)",
        "version  islr-search 0.1.0",
        "           top1     sd   loss     sd loss_ts    ece ece_ts   mass mass_ts",
        "trial 7  0.7500 0.1000 0.2500 0.2500  0.2500 0.2500 0.2500 0.2500  0.2500",
        "baseline 0.5000 0.1000 0.2500 0.2500  0.2500 0.2500 0.2500 0.2500  0.2500",
        "gain     +0.2500 in accuracy with the seeds that both trained with (95% interval",
        "         -0.1000 to +0.5000, over seeds and clips)",
        "note     _ts: after temperature scaling fitted on the validation clips, 1.50",
        "         (trial 7), 1.50 (baseline)",
        "         ece: calibration error in bins of equal width; mass: in bins with equal",
        "         numbers of clips",
        "signer  clips  trial 7  baseline",
        "花子        4   0.7500    0.5000",
    ]


def test_plain_screen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials and notices go to stderr, an epoch only after a quiet minute, the summary to stdout."""
    now = [0.0]
    monkeypatch.setattr("search.commands.screens.time.monotonic", lambda: now[0])
    show = PlainScreen()
    show(STARTED)
    capsys.readouterr()
    show(TrialStarted(3, PARAMS, 50))
    show(EpochFinished(3, RECORD, 3))
    now[0] = 61.0
    show(EpochFinished(3, RECORD, 3))
    show(EpochFinished(3, RECORD, 3))
    show(TrialStarted(4, PARAMS, 50, done=7, remark="resuming after epoch 7"))
    show(WorkerDied(4, "it was killed by SIGKILL (out of memory?)", 1, 3))
    show(Notice("2 signers in total: no test part"))
    show(finished_trial())
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "trial 3: epoch 3, val_loss 1.2500, top1 0.5000",
        "trial 4 was interrupted: resuming after epoch 7",
        "the worker of trial 4 died: it was killed by SIGKILL (out of memory?); another worker continues (1 of 3)",
        "2 signers in total: no test part",
        "*    3 complete   1.2500 0.5000     50  2m08s            0.25 8.1e-04     0.1",
    ]
    show(finished_run())
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out.splitlines() == run_finished_lines(finished_run())


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Each event is a JSON object on its own line, with the schema, in UTF-8."""
    for event in (
        STARTED,
        Notice("手"),
        TrialStarted(3, PARAMS, 50),
        EpochFinished(3, RECORD, 3),
        finished_trial(),
        finished_run(),
    ):
        print_json_line(event)
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
def test_choice_of_the_screen(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The live screen is used only on a terminal that supports it and if it is wanted."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(choose_screen(as_json=False, progress=True), LiveScreen)
    assert type(choose_screen(as_json=False, progress=False)) is PlainScreen
    assert choose_screen(as_json=True, progress=True) is print_json_line
    monkeypatch.setenv(variable, "dumb")
    assert type(choose_screen(as_json=False, progress=True)) is PlainScreen


def labels(show: LiveScreen) -> list[str]:
    """Labels of the bars."""
    return [task.description for task in show._bars.tasks]


def test_live_screen(capsys: pytest.CaptureFixture[str]) -> None:
    """Each running trial has a bar; finished trials go to stderr and the summary to stdout."""
    show = LiveScreen()
    for event in (STARTED, TrialStarted(3, PARAMS, 50), TrialStarted(4, PARAMS, 50), EpochFinished(3, RECORD, 3)):
        show(event)
    assert labels(show) == ["trials", "trial 3", "trial 4"]
    show(WorkerDied(3, "it was killed by SIGKILL", 1, 3))
    show(TrialStarted(3, PARAMS, 50, done=3, remark="resuming after epoch 3"))
    show(finished_trial())
    assert labels(show) == ["trials", "trial 4"]
    show(finished_run())
    show.close()
    shown = capsys.readouterr()
    assert "*    3 complete   1.2500 0.5000     50  2m08s            0.25 8.1e-04     0.1\n" in shown.err
    assert "trial 3 was interrupted: resuming after epoch 3\n" in shown.err
    assert shown.out.splitlines() == run_finished_lines(finished_run())
