"""`search retrain`: trains an exported configuration again and checks whether it reproduces the recorded value."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from data_utils.files import write_atomically
from data_utils.splits import split_signers
from model import lockstep
from model.objective import Objective
from model.record import EpochRecord
from model.training import Training, fit
from search.definition.definition import Plan
from search.errors import os_errors
from search.events import Listener
from search.exporting.export import Exported, objective_name
from search.exporting.setup import Setup, training_errors
from search.exporting.writing import WRITE_HINT, Provenance, write_model
from search.running.signals import StopRequest
from search.trial.clips import Fold, TrialClips
from search.trial.curves import Curves
from search.trial.files import curve_text
from search.trial.job import training_seed
from search.trial.result import measured, why_invalid
from search.trial.trial_run import start_trainings
from search.wording import trial_name


@dataclass(frozen=True)
class Retrained:
    """The result of training an exported configuration again."""

    name: str
    """Name of the objective."""

    recorded: float
    value: float
    measured: dict[str, Any]
    """Metrics at the epoch that the objective selects; means over the trainings."""

    differences: list[str]
    """What differs from the recorded training, one line each. If empty, the value has to be reproduced."""

    invalid: str
    """Why the result cannot be right; empty if it is plausible."""

    caution: str = ""
    """What limits it; empty for a split by signer."""

    @property
    def is_reproduced(self) -> bool:
        """Whether the value equals the recorded one bit for bit."""
        return self.value == self.recorded


def retrain(
    setup: Setup,
    *,
    emit: Listener,
    on_epoch: Callable[[int, EpochRecord], bool],
    stop: StopRequest,
) -> Retrained | None:
    """Trains on the recorded split and compares the objective with the recorded value. None if it was stopped.

    With folds or repeats, trains all models again. `on_epoch` receives the index of the model and the epoch's record and
    returns whether to continue.

    With an output folder, writes the model (weights of the epoch that the objective selects) and its curve there; several
    models in numbered subfolders.

    Raises:
        DataError: a signer is missing from the data set.
        NegativeAnswer: the training fails.
        ResourceError: the model cannot be written.
    """
    exported, configs, num_words = setup.exported, setup.configs, len(setup.data.words)
    objective = Objective(**exported.objective)  # type: ignore[arg-type]  # checked by `read_export`
    _require_signers(setup)
    curves = Curves(objective, one_by_one=True)
    with training_errors():
        folds = TrialClips(setup.data, setup.split, setup.store, emit).folds(configs.preprocess)
        run_epoch = functools.partial(lockstep.run_epoch, width=setup.stack)
        plan = Plan(objective=objective, repeats=exported.repeats)
        trainings = start_trainings(configs, setup.seed, setup.device, plan, folds, num_words, setup.order)
        for number, training in enumerate(trainings):
            curves.histories[number] = fit(training, functools.partial(on_epoch, number), run_epoch)
            if stop.reason:
                return None
    name = objective_name(objective)
    result = Retrained(
        name=name,
        recorded=float(exported.recorded[name]),
        value=curves.mean(curves.objective.value),
        measured=measured([objective.kept_epoch(history) for history in curves.histories.values()]),
        differences=setup.differences,
        invalid=why_invalid(configs.train, num_words, curves.histories, trainings[0].label_smoothing_used),
        caution=exported.caution,
    )
    if setup.output is not None:
        _write_models(setup, result, trainings, folds)
    return result


def _require_signers(setup: Setup) -> None:
    """Checks that the data set has the signers of the recorded split, and that every word is trained.

    Raises:
        DataError: it does not.
    """
    if setup.split.clips is None:
        for train, held_out in setup.split.train_validation_pairs():
            split_signers(setup.data.words_of, train=train, validation=held_out, test="none")


def _write_models(setup: Setup, result: Retrained, trainings: Sequence[Training], folds: Sequence[Fold]) -> None:
    """Writes a model folder per training: the output folder itself, or numbered subfolders if there are several."""
    assert setup.output is not None, "checked by `retrain`"
    exported, count = setup.exported, len(trainings)
    retrained = _retrained_configuration(setup, result)
    for number, training in enumerate(trainings):
        fold, record = folds[number // exported.repeats], training.kept_epoch
        text, folder = f"the configuration of {trial_name(exported.trial)} trained again", setup.output
        if count > 1:
            text += f", number {number} of {count}: each has its own seed and, with folds, its own fold"
            folder /= str(number)
        provenance = Provenance(
            kind="retrained",
            text=text,
            seed=training_seed(setup.seed, number),
            order=setup.order,
            epochs=record.epoch,
            temperature=record.temperature,
            made_with=setup.made_with,
            train=fold.trained_on,
            fingerprint=setup.fingerprint,
            differences=setup.differences,
            validation={"signers": list(fold.signers), "clips": len(fold.validation), **measured([record])},
        )
        model = training.kept_model()
        write_model(folder, model, setup.configs, exported, provenance, onnx=setup.onnx, retrained=retrained)
        with os_errors("the curve cannot be written", where=folder, hint=WRITE_HINT):
            write_atomically(folder / "curve.csv", curve_text({number: training.history}))


def _retrained_configuration(setup: Setup, result: Retrained) -> Exported:
    """The configuration that trains these models again, with the values of this training."""
    exported = setup.exported
    if setup.fingerprint != exported.data["fingerprint"]:  # results on the recorded data do not hold for other data
        exported = replace(exported, baseline={}, confirmed={}, sealed={}, front=[])
    return replace(
        exported,
        seed=setup.seed,
        order_seed=None if setup.order is None else setup.order.seed,
        first_order=None if setup.order is None else setup.order.first,
        stack=setup.stack,
        recorded={**result.measured, result.name: result.value},
        data={**exported.data, "folder": str(setup.data.folder), "fingerprint": setup.fingerprint},
        made_with=setup.made_with,
    )
