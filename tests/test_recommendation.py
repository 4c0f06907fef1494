"""Which trial to use without a confirmation: the one that a model believes in, and where it is shown and exported."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from conftest import Cli, enter_copy
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

import search.cli
from search.commands.run_text import run_finished_lines
from search.definition.ranges import Choices, Range
from search.definition.settings import Setting
from search.definition.space import Dimension
from search.definition.trial_attributes import attribute
from search.events import RunFinished, TrialSummary
from search.reporting.dashboard.notes import study_note, trial_notes
from search.reporting.facts import Facts
from search.storage.opening import open_storage
from search.study import recommendation
from search.study.recommendation import MIN_TRIALS, Recommendation, recommend
from search.study.study import load_study

SPACE = (
    Dimension("dropout", Setting("model", "dropout", float, 0.1), Range(low=0.0, high=0.5)),
    Dimension("lr", Setting("train", "lr", float, 1e-3), Range(low=1e-4, high=1e-1, log=True)),
)
NARROW = (Dimension("dropout", SPACE[0].setting, Range(low=0.31, high=0.5)), SPACE[1])
GRID = (Dimension("optimizer", Setting("train", "optimizer", str, "a"), Choices(choices=["a", "b", "c"])),)
SHAPES: dict[str, BaseDistribution] = {"dropout": FloatDistribution(0.0, 0.5), "lr": FloatDistribution(1e-4, 1e-1, log=True)}
OURS = {"result": "{}", "settings": "{}", "seed": 1}
URL = "sqlite:///runs/studies.db"
NOISE = 0.05


def complete(number: int, value: float | Sequence[float], attributes: Mapping[str, Any] = OURS, **params: Any) -> FrozenTrial:
    """A complete trial."""
    shapes = {name: SHAPES.get(name, CategoricalDistribution(["a", "b", "c"])) for name in params}
    values = [value] if isinstance(value, float) else list(value)
    trial = create_trial(values=values, params=params, distributions=shapes, user_attrs=dict(attributes))
    trial.number = number
    return trial


def truth(dropout: float, lr: float) -> float:
    """The mean over seeds of a setting: lowest at dropout 0.2 and learning rate 3e-3."""
    return 0.6 + 4 * (dropout - 0.2) ** 2 + 0.3 * (math.log10(lr) + 2.5) ** 2


def settings(count: int, seed: int = 0) -> list[dict[str, float]]:
    """Settings spread over the space, a third of them in the region of high learning rates."""
    rng = np.random.default_rng(seed)
    return [{"dropout": float(rng.uniform(0, 0.5)), "lr": float(10 ** rng.uniform(-4, -1))} for _ in range(count)]


def noisy(count: int, seed: int = 0) -> list[FrozenTrial]:
    """A search whose values are noisy; trial 3 lies far from the good region, and luck gives it the best value of all."""
    rng = np.random.default_rng(seed + 100)
    params = settings(count, seed)
    params[3] = {"dropout": 0.45, "lr": 0.05}
    values = [truth(**one) + rng.normal(0, NOISE) for one in params]
    values[3] = min(values) - 0.01
    return [complete(number, value, **one) for number, (value, one) in enumerate(zip(values, params, strict=True))]


def found(trials: Sequence[FrozenTrial], space: Sequence[Dimension] = SPACE) -> Recommendation:
    """The recommendation, which must exist."""
    result = recommend(trials, space, 0)
    assert result is not None
    return result


@pytest.mark.parametrize("seed", range(4))
def test_a_lucky_outlier_is_not_recommended(seed: int) -> None:
    """The lowest value lies in a bad region: the model recommends a setting of the good one, and says how sure it is."""
    trials = noisy(30, seed)
    result = found(trials)
    assert (result.best, result.best_value) == (3, trials[3].values[0])
    assert result.trial != 3
    assert result.params == trials[result.trial].params
    assert truth(**result.params) < min(truth(**trial.params) for trial in trials) + 3 * NOISE
    assert result.low < truth(**result.params) < result.high
    assert result.low < result.mean < result.high
    assert result.better is not None
    assert result.better > 0.5
    assert result.complete == 30


def test_the_noise_is_that_of_one_training() -> None:
    """It is the standard deviation of values around the truth."""
    rng = np.random.default_rng(1)
    trials = [complete(n, truth(**one) + rng.normal(0, NOISE), **one) for n, one in enumerate(settings(80))]
    assert found(trials).noise == pytest.approx(NOISE, rel=0.35)


@pytest.mark.parametrize(("count", "noise"), [(10, 0.15), (20, 0.15), (20, 0.02)])
def test_intervals_hold_the_truth(count: int, noise: float) -> None:
    """Ten noisy trials do not tell how noisy they are: the interval covers that too."""
    inside = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        trials = [complete(n, truth(**one) + rng.normal(0, noise), **one) for n, one in enumerate(settings(count, seed))]
        result = found(trials)
        inside += result.low < truth(**result.params) < result.high
    assert inside >= 17  # of 95%, 16 or fewer have a probability of 2%


def test_the_best_value_may_be_believed() -> None:
    """Where nothing is noise, the model recommends the best value, and compares it with nothing."""
    trials = [complete(n, truth(**one), **one) for n, one in enumerate(settings(20))]
    result = found(trials)
    assert result.trial == result.best
    assert result.better is None


def test_few_trials_have_no_model() -> None:
    """Pruned and failed trials do not count."""
    trials = noisy(MIN_TRIALS)
    assert recommend(trials, SPACE, 0) is not None
    assert recommend(trials[1:], SPACE, 0) is None
    for state in (TrialState.FAIL, TrialState.PRUNED, TrialState.RUNNING):
        trials[0].state = state
        assert recommend(trials, SPACE, 0) is None


def test_only_our_own_trials_are_recommended() -> None:
    """A trial that another program completed is neither recommended nor counted, whatever its value."""
    trials = noisy(20)
    alone = found(trials)
    foreign = [complete(20 + n, -5.0, {}, **trials[alone.trial].params) for n in range(3)]
    assert found([*trials, *foreign]) == alone
    assert recommend([*trials[: MIN_TRIALS - 1], *foreign], SPACE, 0) is None


def test_several_objectives_have_no_recommendation() -> None:
    """There the Pareto front is the answer."""
    trials = [complete(n, [truth(**one), 1.0], **one) for n, one in enumerate(settings(20))]
    assert recommend(trials, SPACE, 0) is None


ODD: dict[str, Callable[[], tuple[list[FrozenTrial], Sequence[Dimension]]]] = {
    "nothing": lambda: ([], SPACE),
    "no space": lambda: (noisy(12), ()),
    "constant": lambda: ([complete(n, 0.5, **one) for n, one in enumerate(settings(12))], SPACE),
    "repeats": lambda: ([complete(n, 0.5 + n / 100, dropout=0.1, lr=1e-2) for n in range(12)], SPACE),
    "infinite": lambda: ([complete(n, math.inf if n % 2 else 0.5, **one) for n, one in enumerate(settings(20))], SPACE),
    "mostly infinite": lambda: ([complete(n, math.inf if n % 2 else 0.5, **one) for n, one in enumerate(settings(12))], SPACE),
    "all infinite": lambda: ([complete(n, math.inf, **one) for n, one in enumerate(settings(20))], SPACE),
    "huge": lambda: ([complete(n, 1e300 * (-1) ** n, **one) for n, one in enumerate(settings(12))], SPACE),
    "choices": lambda: ([complete(n, "abc".index(c) / 10, optimizer=c) for n, c in enumerate("abcabcabc")], GRID),
    "outside": lambda: ([*noisy(12), complete(12, -9.0, dropout=0.3, lr=1e-2)], NARROW),
    "other names": lambda: ([*noisy(12), complete(12, -9.0, optimizer="a")], SPACE),
    "a part of the names": lambda: ([*noisy(12), complete(12, 0.9, lr=1e-2)], SPACE),
    "no parameters": lambda: ([*noisy(12), complete(12, -9.0)], SPACE),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_studies(name: str) -> None:
    """No study makes it fail; what is recommended is a setting of the space with a finite value."""
    trials, space = ODD[name]()
    result = recommend(trials, space, 0)
    assert (result is None) == (name in ("nothing", "no space", "mostly infinite", "all infinite", "huge"))
    if result is not None:
        assert result.trial < 12 or name == "infinite"
        assert all(map(math.isfinite, (result.mean, result.low, result.high, result.noise, result.best_value)))


def test_choices_alone() -> None:
    """A grid of choices: the best choice, not the luckiest of its trials."""
    values = [0.50, 0.60, 0.30, 0.52, 0.61, 0.68, 0.51, 0.59, 0.69, 0.49, 0.62, 0.70]
    trials = [complete(n, value, optimizer="abc"[n % 3]) for n, value in enumerate(values)]
    result = found(trials, GRID)
    assert result.best == 2
    assert result.params == {"optimizer": "a"}


def test_nothing_is_fitted_again_while_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """`status --watch` asks every two seconds."""
    fits: list[int] = []

    def counting(trials: Sequence[FrozenTrial], *rest: Any, averaged: bool) -> Any:
        fits.append(len(trials))
        return believe(trials, *rest, averaged=averaged)

    believe = recommendation.believe
    monkeypatch.setattr(recommendation, "believe", counting)
    trials = noisy(13, seed=77)
    first = found(trials)
    assert found([*trials, complete(13, -1.0, {}, **trials[0].params)]) == first
    assert fits == [13]
    found([*trials, complete(13, 0.7, **trials[0].params)])
    assert fits == [13, 14]


def test_the_model_needs_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a search that uses all cores, a fit with several threads takes fifty times as long."""
    monkeypatch.setattr(search.cli, "install_safe_streams", lambda: None)
    monkeypatch.setattr(search.cli, "execute", lambda arguments: 0)
    for before, after in (("3", "3"), (None, "1")):
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", before or "")
        if before is None:
            monkeypatch.delenv("OPENBLAS_NUM_THREADS")
        with pytest.raises(SystemExit):
            search.cli.main([])
        assert os.environ["OPENBLAS_NUM_THREADS"] == after


def test_thousands_of_trials() -> None:
    """The model uses those near the best, and finds the good region."""
    rng = np.random.default_rng(5)
    trials = [complete(n, truth(**one) + rng.normal(0, NOISE), **one) for n, one in enumerate(settings(2000, seed=5))]
    result = found(trials)
    assert truth(**result.params) < 0.62
    assert result.complete == 2000


# The study of the command-line tests


@pytest.fixture(scope="session")
def once_lucky(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the study `tiny`: 24 trials more, of which trial 9 has the best value by luck alone."""
    folder = tmp_path_factory.mktemp("lucky")
    return add_trials(searched, folder / "place", [trial.params for trial in noisy(24)], lucky=3, noise=NOISE)


def add_trials(searched: Path, folder: Path, params: Sequence[Mapping[str, Any]], *, lucky: int | None, noise: float) -> Path:
    """A copy of `searched` with further trials, modeled on its trial 1; all values but that of `lucky` follow `truth`."""
    with pytest.MonkeyPatch.context() as patch:
        enter_copy(searched, folder, patch)
        study = optuna.load_study(study_name="tiny", storage=open_storage(URL, create=False))
        pattern = study.trials[1]
        rng = np.random.default_rng(9)
        for number, one in enumerate(params):
            given = {**pattern.params, **one}
            value = 0.1 if number == lucky else truth(one["dropout"], one["lr"]) + rng.normal(0, noise)
            result = {**json.loads(attribute(pattern, "result")), "val_loss": value, "values": {"val_loss": value}}
            stored = json.loads(attribute(pattern, "settings"))
            stored["model"]["dropout"], stored["train"]["lr"] = given["dropout"], given["lr"]
            attributes = {**pattern.user_attrs, "result": json.dumps(result), "settings": json.dumps(stored)}
            trial = create_trial(value=value, params=given, distributions=pattern.distributions, user_attrs=attributes)
            study.add_trial(trial)
    return folder


@pytest.fixture
def lucky(once_lucky: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that study, as the current directory."""
    return enter_copy(once_lucky, tmp_path / "lucky", monkeypatch)


def facts() -> Facts:
    """The study of the current directory as the report and the dashboard see it."""
    storage = open_storage(URL, create=False)
    return Facts(load_study(storage, "tiny", print), storage, url=URL, runs=Path("runs"))


def test_everything_names_the_same_trial(lucky: Path, cli: Cli) -> None:
    """Status, export, report, analysis and notes agree on what to use, and on which trial has the best value."""
    status = json.loads(cli("status", "tiny", "--json").out)
    believed = status["believed"]
    number, mean = believed["trial"], f"{believed['mean']:.4f}"
    assert status["best"]["trial"] == believed["best"] == 9
    assert number != 9
    lines = cli("status", "tiny").out
    assert "best     trial 9: val_loss 0.1000" in lines
    assert f"believed trial {number}: mean val_loss {mean} (95% interval {believed['low']:.4f} to" in lines

    exported = cli("export", "tiny")
    assert f"\ntrial: {number}\n" in exported.out
    for text in (exported.err, " ".join(exported.out.splitlines()[1:4]).replace("# ", "").replace("This is", "this is")):
        assert f"this is trial {number}, which the model believes in: mean val_loss over seeds {mean}" in text
        assert "Trial 9 has the best value, 0.1000, which is partly luck; `--trial 9` exports it" in text
    assert json.loads(cli("analyze", "tiny", "--json").out)["chosen"] == number

    assert cli("report", "tiny", "--output", "report.html").code == 0
    page = (lucky / "report.html").read_text(encoding="utf-8")
    assert f"Trial {number} is the best so far, but not confirmed." in page
    assert f'data-of="analyze.believed.mean" value="{believed["mean"]!r}"' in page
    assert f"The configuration of trial {number} of the study tiny" in page
    shown = facts()
    assert f"Trial {number} is the best so far, but not confirmed." in study_note(shown)
    notes = trial_notes(shown)
    assert f"**Believed to be the best.** Mean val\\_loss over seeds: {mean}" in notes[number]
    assert "Believed" not in notes[9]


def test_the_best_value_can_be_exported(lucky: Path, cli: Cli) -> None:
    """By `--trial`, and by `--searched`; each says which it is."""
    for options, text in (
        (("--trial", "9"), "as requested"),
        (("--searched",), "the best of the search; its value is partly luck"),
    ):
        exported = cli("export", "tiny", *options)
        assert "\ntrial: 9\n" in exported.out
        assert exported.out.splitlines()[1] == f"# This is trial 9, {text}"
        assert f"this is trial 9, {text}" in exported.err


def test_an_exported_file_can_be_read(lucky: Path, cli: Cli) -> None:
    """The reason is a comment."""
    from search.exporting.export import read_export

    number = json.loads(cli("status", "tiny", "--json").out)["believed"]["trial"]
    assert cli("export", "tiny", "--output", "best.yaml").code == 0
    assert read_export(lucky / "best.yaml")[0].trial == number


def test_both_may_be_one_trial(searched: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """One short sentence says so."""
    params = [{"dropout": 0.2, "lr": 10**-2.5}, *settings(16)]
    monkeypatch.chdir(add_trials(searched, tmp_path / "same", params, lucky=None, noise=0.0))
    believed = json.loads(cli("status", "tiny", "--json").out)["believed"]
    assert believed["trial"] == believed["best"]
    assert (
        f"this is trial {believed['trial']}: it has the best value, and the model believes in it too"
        in cli("export", "tiny").err
    )
    assert f"believed trial {believed['trial']} too: mean val_loss" in cli("status", "tiny").out
    assert "It also has the lowest value." in study_note(facts())


def test_too_few_trials_for_a_model(searched_copy: Path, cli: Cli) -> None:
    """Of six trials the best value is exported, and the file says why; `status` shows no model."""
    status = json.loads(cli("status", "tiny", "--json").out)
    assert status["believed"] is None
    assert "believed" not in cli("status", "tiny").out
    exported = cli("export", "tiny")
    best = status["best"]["trial"]
    assert f"\ntrial: {best}\n" in exported.out
    assert exported.out.splitlines()[1].startswith(
        f"# This is trial {best}, the best of the search; too few trials for a model"
    )
    assert f"this is trial {best}, the best of the search; too few trials for a model" in exported.err


def test_a_confirmation_wins(confirmed: Path, cli: Cli) -> None:
    """What was trained with fresh seeds is known better than any model can."""
    status = json.loads(cli("status", "tiny", "--json").out)
    exported = cli("export", "tiny")
    assert f"\ntrial: {status['confirmed']['found']['recommended']}\n" in exported.out
    assert "believe" not in exported.err


def test_a_run_ends_with_it() -> None:
    """Beside the best value, with the noise of one training and the probability of being better."""
    best = TrialSummary(31, {"lr": 3e-3}, 0.7741, 0.8, 18, {"val_loss": 0.7741})
    believed = Recommendation(
        trial=22, params={"lr": 2.9e-3}, mean=0.842, low=0.79, high=0.89, noise=0.05, best=31, best_value=0.7741,
        better=0.81, complete=50,
    )  # fmt: skip
    event = RunFinished(
        "s", 50, 50, {"complete": 50, "pruned": 0, "failed": 0}, best, None, (), (), 0.05, 9.0, believed=believed
    )
    text = "\n".join(run_finished_lines(event))
    assert "best     trial 31: val_loss 0.7741" in text
    assert (
        "believed trial 22: mean val_loss 0.8420 (95% interval 0.7900 to 0.8900); one training has noise of 0.0500 (sd)" in text
    )
    assert "         lr 2.9e-03" in text
    assert "truly better than trial 31 with a probability of 81%" in text
