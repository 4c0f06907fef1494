"""A trial that was not trained as recorded is detected, such as with the article's misspelled variable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Cli
from launch import stored_trials

import model.training
from model.config import TrainConfig
from model.loss import SmoothedLoss, smoothing_floor
from model.record import EpochRecord
from search.definition.trial_attributes import attribute
from search.trial.result import why_invalid

SETS = ("--set", "space.label_smoothing={choices: [0.0, 0.1, 0.3, 0.5]}", "--set", "sampler={name: random}", "--seed", "2")


def record(train_loss: float) -> EpochRecord:
    """A record of an epoch with this training loss."""
    losses = {"val_loss": 1.0, "val_loss_ts": 1.0, "temperature": 1.0}
    shares = {"val_top1": 0.5, "val_top5": 1.0, "val_ece": 0.1, "val_ece_mass": 0.1}
    return EpochRecord(epoch=1, train_loss=train_loss, **losses, **shares, seconds=1.0)


@pytest.mark.parametrize(
    ("eps", "loss"),
    [(0.3, 0.672), (0.5, 0.672)],  # the article's last epochs of its runs labeled 0.3 and 0.5
)
def test_the_articles_runs(eps: float, loss: float) -> None:
    """The article's training losses prove that its runs labeled 0.3 and 0.5 used other values; 0 and 0.1 are possible."""
    said = why_invalid(TrainConfig(label_smoothing=eps), 10, {0: [record(2.2), record(loss)]}, eps)
    assert f"a training loss of {loss:.4f} lies below {smoothing_floor(eps, 10):.4f}" in said
    assert why_invalid(TrainConfig(label_smoothing=0.0), 10, {0: [record(0.193)]}, 0.0) == ""
    assert why_invalid(TrainConfig(label_smoothing=0.1), 10, {0: [record(0.667)]}, 0.1) == ""


def test_smoothing_over_wrong_words_has_its_own_floor() -> None:
    """With eps on the wrong words only, the entropy of the target differs."""
    config = TrainConfig(label_smoothing=0.3, label_smoothing_over="wrong")
    floor = smoothing_floor(0.3, 10, "wrong")
    assert floor > smoothing_floor(0.3, 10)
    assert why_invalid(config, 10, {0: [record(floor + 0.01)]}, 0.3) == ""
    assert "lies below" in why_invalid(config, 10, {0: [record(floor - 0.01)]}, 0.3)


def always_a_tenth(label_smoothing: float, num_words: int, over: str) -> SmoothedLoss:
    """The effect of the misspelled variable: smoothing is 0.1 whatever the setting."""
    return SmoothedLoss(0.1, num_words, over)  # type: ignore[arg-type]


def test_the_planted_typo_is_caught(place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every trial with another eps fails as invalid, is never the best, and does not count."""
    monkeypatch.setattr(model.training, "SmoothedLoss", always_a_tenth)
    run = ("run", "tiny.yaml", "--data", tiny, *SETS, "--trials", 2, "--max-failures", 50)
    done = cli(*run)
    trials = stored_trials(place)
    for trial in trials:
        eps = trial.params["label_smoothing"]
        assert trial.state.name == ("COMPLETE" if eps == 0.1 else "FAIL")
        if eps != 0.1:
            said = f"invalid: label_smoothing is recorded as {eps:g}, but the loss function used 0.1"
            assert trial.user_attrs["reason"] == said
            assert said in done.err
            assert json.loads(attribute(trial, "result"))["label_smoothing_used"] == pytest.approx(0.1)
    assert {trial.params["label_smoothing"] for trial in trials} > {0.1}
    assert "invalid: " in cli("status", "tiny").out


def test_the_typo_is_caught_by_the_loss_itself(place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the loss function reports the right eps, a training loss below the entropy of the target is invalid."""
    monkeypatch.setattr(model.training, "SmoothedLoss", always_a_tenth)
    monkeypatch.setattr(model.training.Training, "label_smoothing_used", property(lambda self: self.config.label_smoothing))
    learns = ("--set", "epochs=25", "--set", "lr=0.01", "--set", "dropout=0", "--set", "width=32")
    eps = ("--set", "space.label_smoothing={choices: [0.5]}", "--set", "baseline.label_smoothing=0.5")
    done = cli("run", "tiny.yaml", "--data", tiny, *learns, *eps, "--trials", 1, "--max-failures", 0)
    assert done.code == 1
    (trial,) = stored_trials(place)
    assert "lies below 0.8676, the lowest that label_smoothing 0.5 allows with 3 words" in trial.user_attrs["reason"]


def test_retrain_checks_too(place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """`retrain` exits with 1 if the model was not trained as configured."""
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 1).code == 0
    assert cli("export", "tiny", "--output", "best.yaml").code == 0
    monkeypatch.setattr(model.training, "SmoothedLoss", always_a_tenth)
    done = cli("retrain", "best.yaml")
    assert (done.code, "invalid: label_smoothing is recorded as 0" in done.out) == (1, True)


def test_pruned_trials_are_checked_too(place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pruned trial that was not trained as recorded fails too: it neither counts nor informs the sampler."""
    monkeypatch.setattr(model.training, "SmoothedLoss", always_a_tenth)
    pruner = ("--set", "pruner={name: threshold, upper: 0.01, warmup_epochs: 0}", "--set", "baseline.label_smoothing=0.1")
    cli("run", "tiny.yaml", "--data", tiny, *SETS, *pruner, "--trials", 3, "--max-failures", 50)
    trials = stored_trials(place)
    states = {trial.params["label_smoothing"]: trial.state.name for trial in trials[1:]}
    assert trials[0].state.name == "COMPLETE", "the baseline, which is never pruned"
    assert states == {eps: "PRUNED" if eps == 0.1 else "FAIL" for eps in states}
    assert len(states) > 1
