"""`analyze` agrees with the stored trials, whatever state they are in."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path

import pytest
from conftest import Cli
from launch import stored_trials

from search.definition.trial_attributes import attribute


def analysis(cli: Cli, study: str = "tiny") -> dict[str, object]:
    """The output of `--json`."""
    done = cli("analyze", study, "--json")
    assert done.code == 0, done.err
    return dict(json.loads(done.out))


def test_of_a_search(searched: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cost, best trial and position in the space are those of the stored trials; too few trials give no importance."""
    monkeypatch.chdir(searched)
    found = analysis(cli)
    trials = stored_trials(searched)
    results = [json.loads(attribute(trial, "result")) for trial in trials]
    complete = found["ledger"]["by_state"]["complete"]
    assert (complete["trials"], complete["epochs"]) == (6, sum(result["epochs"] for result in results))
    assert complete["cpu_s"] == pytest.approx(sum(result["seconds"] for result in results))
    assert found["chosen"] == min(trials, key=lambda trial: trial.value).number
    assert found["importance"] is None
    assert "6" in found["no_importance"]
    assert found["noise"] is None
    shown = cli("analyze", "tiny")
    assert shown.code == 0
    assert "nothing was trained with more than one seed" in shown.out


def test_of_a_confirmed_study(confirmed: Path, cli: Cli) -> None:
    """The noise is that of the fresh seeds, whose cost is listed separately."""
    found = analysis(cli)
    groups: dict[int, list[float]] = {}
    for one in stored_trials(confirmed, "tiny/confirm"):
        groups.setdefault(one.params["candidate"], []).append(one.value)
    squares = sum((len(values) - 1) * statistics.variance(values) for values in groups.values())
    assert found["noise"]["sd"] == pytest.approx(math.sqrt(squares / sum(len(values) - 1 for values in groups.values())))
    assert found["confirming"]["by_state"]["complete"]["trials"] == len(stored_trials(confirmed, "tiny/confirm"))
    assert found["ledger"]["by_state"]["complete"]["trials"] == 6
    assert found["luck"] == pytest.approx(1.2672 * found["noise"]["sd"], rel=1e-3)  # the largest of six: Tippett's tables


def test_of_a_scientific_parameter(place: Path, tiny: Path, cli: Cli) -> None:
    """It has isolation bins and a comparison of the metrics; twenty trials are enough for importances."""
    role = ("--set", "space.label_smoothing={low: 0.0, high: 0.6, role: scientific}", "--set", "epochs=1")
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 20, *role).code == 0
    found = analysis(cli)
    bins = found["isolation"]["label_smoothing"]
    trials = stored_trials(place)
    assert sum(one["count"] for one in bins) == 20
    assert min(one["best"] for one in bins if one["count"]) == min(trial.value for trial in trials)
    assert {pick["metric"] for pick in found["readings"]["label_smoothing"]["picks"]} == {
        "val_loss",
        "val_loss_ts",
        "val_error",
    }
    assert {one["name"] for one in found["importance"]["params"]} == {"label_smoothing", "lr", "dropout"}
    shown = cli("analyze", "tiny").out
    assert "the best label_smoothing is" in shown
    assert all(name in shown for name in ("share", "confident", "cost"))


@pytest.mark.parametrize(
    ("sets", "trials", "code"),
    [
        (("--set", "space.lr={low: 1e+29, high: 1e+30}", "--set", "baseline.lr=1e+29"), 2, 1),  # all diverge
        (("--set", "objective=[{metric: val_loss}, {metric: parameters}]"), 3, 0),
        (("--set", "repeats=2"), 2, 0),
    ],
)
def test_of_other_studies(sets: tuple[str, ...], trials: int, code: int, place: Path, tiny: Path, cli: Cli) -> None:
    """With failed trials only, several objectives or repeats, every part is shown, or shown as unknown."""
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", trials, "--max-failures", 2, *sets).code == code
    found = analysis(cli)
    shown = cli("analyze", "tiny")
    assert shown.code == 0
    if code:
        assert found["infeasible"]["failed"] == 3
        assert "unknown: no trial is complete" in shown.out
    else:
        assert found["complete"] == trials
        assert (found["noise"] is not None) == ("repeats=2" in sets)
