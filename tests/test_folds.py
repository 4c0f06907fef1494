"""Trials that train several models: folds by signer, and repeats."""

from __future__ import annotations

import csv
import json
import shutil
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
from data_utils.words import write_words
from model.bundle import load_bundle
from search.definition.study_file import load_definition
from search.definition.trial_attributes import attribute
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
    """Folds are nearly equal, have disjoint training and validation signers, no test signers, and depend only on the seed."""
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


def test_leave_one_signer_out() -> None:
    """`each` makes a fold of every signer."""
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
    """More folds than signers, or a word that some fold could not train on, is an error."""
    with pytest.raises(DataError) as caught:
        split_signers(words_of, **wishes)  # type: ignore[arg-type]
    assert said in caught.value.render()


def test_fold_without_a_word() -> None:
    """A fold whose validation signers lack a word is allowed, with a note."""
    split = split_signers({**FIVE, "f": frozenset({0, 1})}, folds="each", test="none")
    assert split.note == "fold 6 validates without some words: its signers have no clip of them"


def test_folds_by_one_setting(place: Path) -> None:
    """`data.folds` alone gives the default study folds, though its validation part is `auto`."""
    definition = load_definition("label_smoothing", ["data.folds=5"])
    assert (definition.signers.folds, definition.signers.test) == (5, "auto")


def test_impossible_folds_are_refused_early(place: Path, tiny: Path, cli: Cli) -> None:
    """Nothing is written except the index of the data."""
    done = cli("run", "tiny.yaml", "--data", tiny, "--set", "data.folds=9")
    assert (done.code, done.err.splitlines()[0]) == (2, "error: 9 folds cannot be made of 3 signers")
    assert not (place / "runs" / "studies.db").exists()


def test_a_trial_of_folds(place: Path, tiny: Path, cli: Cli) -> None:
    """A trial's value is the mean over its folds' best epochs, and the result of each signer is recorded."""
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
        result = json.loads(attribute(trial, "result"))
        assert result["epochs"] == 8
        assert [one["value"] for one in result["trainings"]] == best
    assert len({trial.value for trial in stored_trials(place)}) == 2
    assert "training  signer  clips" in cli("show", "tiny", 1).out


def test_repeats_differ_by_seed_alone(place: Path, tiny: Path, cli: Cli) -> None:
    """The first training equals that of a trial without repeats; the others start from other weights."""
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", "1").code == 0
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 1, "--set", "repeats=3", "--as", "three").code == 0
    (alone,) = read_curves(place / "runs" / "tiny" / "trials" / "0000" / "curve.csv").values()
    three = read_curves(place / "runs" / "three" / "trials" / "0000" / "curve.csv")
    assert [record.val_loss for record in three[0]] == [record.val_loss for record in alone]
    assert len({curve[-1].val_loss for curve in three.values()}) == 3
    assert len({training_seed(7, number) for number in range(100)}) == 100


def interrupted_after(steps: int) -> Callable[[TrialRun], object]:
    """A `next_step` that interrupts the trial after this many steps."""
    real = TrialRun.next_step

    def step(self: TrialRun) -> object:
        if self.steps_done == steps:
            self.save(at_once=True)
            raise KeyboardInterrupt
        return real(self)

    return step


@pytest.mark.parametrize(("pruner", "at"), [("{name: median}", 3), ("{name: wilcoxon, p: 0.6, startup: 2}", 1)])
def test_an_interrupted_trial_of_folds_resumes(
    pruner: str, at: int, place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All trainings resume with the same numbers, side by side or one by one."""
    sets = ["--set", f"pruner={pruner}", "--set", "epochs=4"]
    run = ("run", "tiny.yaml", "--data", tiny, *FOLDED, *sets, "--set", "augment.noise=0.5", "--set", "ema=0.9")
    assert cli(*run, "--trials", 2, "--as", "uninterrupted").code == 0
    with monkeypatch.context() as patch:
        patch.setattr(TrialRun, "next_step", interrupted_after(at))
        assert cli(*run, "--trials", 2, "--as", "cut").code == 130
    done = cli(*run, "--trials", 2, "--as", "cut")
    assert done.code == 0
    assert "trial 0 was interrupted: resuming" in done.err
    assert outcomes(place, "cut") == outcomes(place, "uninterrupted")
    with (place / "runs" / "cut" / "trials" / "0000" / "curve.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    with (place / "runs" / "uninterrupted" / "trials" / "0000" / "curve.csv").open(encoding="utf-8") as stream:
        uninterrupted = list(csv.DictReader(stream))
    assert [{**row, "seconds": 0} for row in rows] == [{**row, "seconds": 0} for row in uninterrupted]


def test_wilcoxon_prunes_by_fold(place: Path, tiny: Path, cli: Cli) -> None:
    """The steps of the Wilcoxon pruner are folds: a pruned trial has finished some and not started the others."""
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


def test_retraining_an_exported_trial_of_folds(place: Path, tiny: Path, cli: Cli) -> None:
    """All models are trained again, and their mean is reproduced bit for bit."""
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
    """With folds and repeats, each step of the pruner is a fold, with the mean over its repeats."""
    sets = ["pruner={name: wilcoxon, p: 0.6, startup: 2}", "data.folds=4", "data.test=none", "repeats=2"]
    words = [word for one in sets for word in ("--set", one)]
    assert cli("run", "tiny.yaml", "--data", tiny, *words, "--trials", 2).code == 0
    for trial in stored_trials(place):
        curves = read_curves(place / "runs" / "tiny" / "trials" / f"{trial.number:04d}" / "curve.csv")
        best = [min(record.val_loss for record in curve) for curve in curves.values()]
        folds = len(best) // 2
        means = {fold: sum(best[2 * fold : 2 * fold + 2]) / 2 for fold in range(folds)}
        assert trial.intermediate_values == means
        rows = json.loads(attribute(trial, "result"))["trainings"]
        assert [row["fold"] for row in rows] == [n // 2 for n in range(2 * folds)]


def test_a_run_says_what_is_odd_about_the_data(place: Path, tiny: Path, cli: Cli) -> None:
    """Files that are not read and words that look alike are named when a search starts; a signer is meant as written."""
    data = Path(shutil.copytree(tiny, place / "data"))
    (data / "9001.hdf5").rename(data / "010.HDF5")
    (data / "9002.hdf5").rename(data / "9002.hdf5.old")
    write_words(data, ["look", "Look ", "listen"])
    done = cli(
        *("run", "tiny.yaml", "--data", data, "--trials", "1"), *("--set", "data.validation=[010]", "--set", "data.test=none")
    )
    assert done.code == 0
    assert f"1 file in {data} not read, such as 9002.hdf5.old" in done.err
    assert "words that look alike, or are empty (class 0 is 'look', class 1 is 'Look ')" in done.err
