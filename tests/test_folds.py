"""Trials that train several models: folds by signer, repeats, and what is kept of each."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import Cli
from hypothesis import given, settings
from hypothesis import strategies as st
from launch import outcomes, stored_trials

from data_utils.errors import DataError
from data_utils.splits import split_signers
from model.bundle import load_bundle
from search.definition.study_file import load_definition
from search.trial.files import read_curves, read_rows
from search.trial.job import training_seed
from search.trial.outcome import SignerScore
from search.trial.trial_run import TrialRun

ALL = frozenset(range(3))
FIVE = dict.fromkeys(("a", "b", "c", "d", "e"), ALL)
SIGNERS = st.integers(4, 12).map(lambda count: {f"s{number}": ALL for number in range(count)})
FOLDED = ("--set", "data.folds=3", "--set", "data.test=none")


@settings(max_examples=60, deadline=None)
@given(words_of=SIGNERS, folds=st.integers(2, 6), seed=st.integers(0, 5))
def test_every_signer_validates_once(words_of: dict[str, frozenset[int]], folds: int, seed: int) -> None:
    """Groups of nearly equal size; who validates does not train; the sealed are in none; the same seed gives the same."""
    try:
        split = split_signers(words_of, folds=folds, seed=seed)
    except DataError as error:
        assert "folds cannot be made" in str(error)  # noqa: PT017 (both outcomes are right, for other numbers)
        return
    assert sorted(signer for fold in split.folds for signer in fold) == list(split.train)
    assert max(map(len, split.folds)) - min(map(len, split.folds)) <= 1
    assert len(split.train_validation_pairs()) == len(split.folds) == folds
    for train, held_out in split.train_validation_pairs():
        assert not set(train) & set(held_out)
        assert set(train) | set(held_out) == set(split.train)
        assert not set(split.test) & {*train, *held_out}
    assert split == split_signers(dict(reversed(words_of.items())), folds=folds, seed=seed)


def test_each_signer_by_itself() -> None:
    """`each` leaves one signer out at a time."""
    split = split_signers(FIVE, folds="each", test=["e"])
    assert split.folds == (("a",), ("b",), ("c",), ("d",))
    assert split.train_validation_pairs()[1] == (("a", "c", "d"), ("b",))
    assert split.validation == ()


@pytest.mark.parametrize(
    ("words_of", "wishes", "said"),
    [
        (FIVE, {"folds": 9}, "9 folds cannot be made of 4 signers"),
        (FIVE, {"folds": 2, "test": list("abcd")}, "2 folds cannot be made of 1 signer"),
        ({**FIVE, "f": frozenset({7})}, {"folds": 3, "test": "none"}, "class 7 has clips of one signer only"),
        ({"a": ALL, "b": frozenset({0})}, {"folds": "each", "test": "none"}, "has clips of one signer only"),
    ],
)
def test_impossible_folds(words_of: dict[str, frozenset[int]], wishes: dict[str, object], said: str) -> None:
    """More folds than signers, and a word that some fold could not train on."""
    with pytest.raises(DataError) as caught:
        split_signers(words_of, **wishes)  # type: ignore[arg-type]
    assert said in caught.value.render()


def test_a_fold_that_validates_without_a_word_is_told() -> None:
    """It can be used, but its number is of fewer words."""
    split = split_signers({**FIVE, "f": frozenset({0, 1})}, folds="each", test="none")
    assert split.note == "fold 6 validates without some words: its signers have no clip of them"


def test_folds_by_one_word(place: Path) -> None:
    """The default study, whose validation part is `auto`, takes folds without more ado."""
    definition = load_definition("label_smoothing", ["data.folds=5"])
    assert (definition.signers.folds, definition.signers.test) == (5, "auto")


def test_a_fold_without_a_class_is_refused_before_anything_starts(place: Path, tiny: Path, cli: Cli) -> None:
    """Nothing is written but the index of the data."""
    done = cli("run", "tiny.yaml", "--data", tiny, "--set", "data.folds=9")
    assert (done.code, done.err.splitlines()[0]) == (2, "error: 9 folds cannot be made of 3 signers")
    assert not (place / "runs" / "studies.db").exists()


def test_a_trial_of_folds(place: Path, tiny: Path, cli: Cli) -> None:
    """Its value is the mean over the folds of each one's best epoch, and what each signer gave is kept."""
    done = cli("run", "tiny.yaml", "--data", tiny, "--trials", 2, "--set", "data.folds=4", "--set", "data.test=none")
    assert done.code == 0
    assert "signers  4 in 4 cross-validation folds (48 clips), no test part" in done.err
    for trial in stored_trials(place):
        folder = place / "runs" / "tiny" / "trials" / f"{trial.number:04d}"
        curves = read_curves(folder / "curve.csv")
        assert sorted(curves) == [0, 1, 2, 3]
        best = [min(record.val_loss for record in curve) for curve in curves.values()]
        assert trial.value == sum(best) / 4
        means = {epoch: sum(curve[epoch - 1].val_loss for curve in curves.values()) / 4 for epoch in (1, 2)}
        assert trial.intermediate_values == means
        signers = read_rows(SignerScore, folder / "signers.csv")
        assert [row.signer for row in signers] == ["9001", "9002", "9003", "9004"]
        assert [row.val_loss for row in signers] == pytest.approx(best), "each fold is one signer"
        result = json.loads(trial.user_attrs["result"])
        assert result["epochs"] == 8
        assert [one["value"] for one in result["trainings"]] == best
    assert len({trial.value for trial in stored_trials(place)}) == 2
    assert "training  signer  clips" in cli("show", "tiny", 1).out


def test_repeats_differ_by_seed_alone(place: Path, tiny: Path, cli: Cli) -> None:
    """The first training is that of a trial without repeats; the others start from other weights."""
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 1).code == 0
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 1, "--set", "repeats=3", "--as", "three").code == 0
    (alone,) = read_curves(place / "runs" / "tiny" / "trials" / "0000" / "curve.csv").values()
    three = read_curves(place / "runs" / "three" / "trials" / "0000" / "curve.csv")
    assert [record.val_loss for record in three[0]] == [record.val_loss for record in alone]
    assert len({curve[-1].val_loss for curve in three.values()}) == 3
    assert len({training_seed(7, number) for number in range(100)}) == 100


def cut_after(steps: int) -> Callable[[TrialRun], object]:
    """A `next_step` that is interrupted when the trial has done so many."""
    real = TrialRun.next_step

    def step(self: TrialRun) -> object:
        if self.steps_done == steps:
            self.save(at_once=True)
            raise KeyboardInterrupt
        return real(self)

    return step


@pytest.mark.parametrize(("pruner", "at"), [("{name: median}", 3), ("{name: wilcoxon, p: 0.6, startup: 2}", 1)])
def test_a_cut_trial_of_folds_goes_on_exactly(
    pruner: str, at: int, place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Side by side or one by one, all trainings go on with the same numbers."""
    sets = ["--set", f"pruner={pruner}", "--set", "epochs=4"]
    run = ("run", "tiny.yaml", "--data", tiny, *FOLDED, *sets, "--set", "augment.noise=0.5", "--set", "ema=0.9")
    assert cli(*run, "--trials", 2, "--as", "peace").code == 0
    with monkeypatch.context() as patch:
        patch.setattr(TrialRun, "next_step", cut_after(at))
        assert cli(*run, "--trials", 2, "--as", "cut").code == 130
    done = cli(*run, "--trials", 2, "--as", "cut")
    assert done.code == 0
    assert "trial 0 was interrupted: resuming" in done.err
    assert outcomes(place, "cut") == outcomes(place, "peace")
    with (place / "runs" / "cut" / "trials" / "0000" / "curve.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    with (place / "runs" / "peace" / "trials" / "0000" / "curve.csv").open(encoding="utf-8") as stream:
        peace = list(csv.DictReader(stream))
    assert [{**row, "seconds": 0} for row in rows] == [{**row, "seconds": 0} for row in peace]


def test_wilcoxon_sees_fold_by_fold(place: Path, tiny: Path, cli: Cli) -> None:
    """Its steps are the folds, and a trial that it stops has trained some of them to their end and the rest not at all."""
    sets = ["pruner={name: wilcoxon, p: 0.6, startup: 2}", "data.folds=4", "data.test=none", "space.lr.low=1e-6", "epochs=3"]
    words = [word for one in sets for word in ("--set", one)]
    assert cli("run", "tiny.yaml", "--data", tiny, *words, "--trials", 6, "--set", "sampler={name: random}").code == 0
    trials = stored_trials(place)
    pruned = [trial for trial in trials if trial.state.name == "PRUNED"]
    assert pruned, "p is so large that some must go"
    for trial in trials:
        curves = read_curves(place / "runs" / "tiny" / "trials" / f"{trial.number:04d}" / "curve.csv")
        assert list(trial.intermediate_values) == list(curves)
        assert trial.intermediate_values == {n: min(r.val_loss for r in curve) for n, curve in curves.items()}
        assert {len(curve) for curve in curves.values()} == {3}
    assert all(2 <= len(trial.intermediate_values) < 4 for trial in pruned)


def test_an_exported_trial_of_folds_trains_back(place: Path, tiny: Path, cli: Cli) -> None:
    """All its models are trained again, and the mean comes back bit for bit."""
    run = ("run", "tiny.yaml", "--data", tiny, *FOLDED, "--set", "repeats=2", "--trials", 2)
    assert cli(*run, "--set", "objective={metric: val_error, reduce: mean_last_5}").code == 0
    assert cli("export", "tiny", "--output", "best.yaml").code == 0
    content = yaml.safe_load((place / "best.yaml").read_text(encoding="utf-8"))
    assert content["objective"] == {"metric": "val_error", "reduce": "mean_last_5"}
    assert (content["repeats"], len(content["data"]["folds"])) == (2, 3)
    done = cli("retrain", "best.yaml", "--output", "model")
    assert done.code == 0, done.out + done.err
    assert done.out.splitlines()[-1] == "the recorded val_error_mean_last_5 was reproduced bit for bit"
    assert sorted(path.name for path in (place / "model").iterdir()) == [str(n) for n in range(6)]
    for n in range(6):
        mine = load_bundle(place / "model" / str(n)).metrics["this_model"]
        assert mine["validation"]["signers"] == content["data"]["folds"][n // 2]
        assert set(mine["train"]["signers"]) == set(content["data"]["train"]) - set(mine["validation"]["signers"])


def test_wilcoxon_compares_folds_not_seeds(place: Path, tiny: Path, cli: Cli) -> None:
    """With folds and repeats each step is a fold: the mean over its repeats."""
    sets = ["pruner={name: wilcoxon, p: 0.6, startup: 2}", "data.folds=4", "data.test=none", "repeats=2"]
    words = [word for one in sets for word in ("--set", one)]
    assert cli("run", "tiny.yaml", "--data", tiny, *words, "--trials", 2).code == 0
    for trial in stored_trials(place):
        curves = read_curves(place / "runs" / "tiny" / "trials" / f"{trial.number:04d}" / "curve.csv")
        best = [min(record.val_loss for record in curve) for curve in curves.values()]
        folds = len(best) // 2
        means = {fold: sum(best[2 * fold : 2 * fold + 2]) / 2 for fold in range(folds)}
        assert trial.intermediate_values == means
        rows = json.loads(trial.user_attrs["result"])["trainings"]
        assert [row["fold"] for row in rows] == [n // 2 for n in range(2 * folds)]
