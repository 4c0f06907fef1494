"""Training an exported configuration again: does its number come back?"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_utils.errors import DataError
from data_utils.files import write_atomically
from data_utils.prepared import DataSet, fingerprint
from data_utils.splits import Split, split_signers
from model.bundle import require_new
from model.objective import Objective
from model.onnx import require_onnx
from model.record import EpochRecord
from model.training import Diverged, Training, fit
from search.definition.definition import Plan
from search.definition.settings import Configs
from search.errors import NegativeAnswer, os_errors
from search.events import Listener
from search.exporting.export import Exported, ExportedData, compared_name
from search.exporting.writing import Made, write_model
from search.running.signals import StopRequest
from search.trial.clips import Fold, TrialClips, data_store, open_indexed
from search.trial.curves import Curves
from search.trial.files import curve_text
from search.trial.job import training_seed
from search.trial.machine import made_with
from search.trial.result import measured, why_invalid
from search.trial.trial_run import start_trainings
from search.wording import trial_name


@dataclass(frozen=True)
class Retrained:
    """What came of training an exported configuration again."""

    name: str
    """What is compared."""

    recorded: float
    value: float
    measured: dict[str, Any]
    """At the epoch that counts; means over the trainings."""

    differences: list[str]
    """In words, what is not as it was."""

    invalid: str
    """Why it cannot have been trained as it should; empty if nothing speaks against it."""

    @property
    def came_back(self) -> bool:
        """Whether the recorded number came back bit for bit."""
        return self.value == self.recorded

    @property
    def should_come_back(self) -> bool:
        """Whether it had to: nothing is different."""
        return not self.differences


def retrain(
    exported: Exported,
    configs: Configs,
    *,
    data: Path | None,
    seed: int | None,
    device: str,
    runs: Path,
    emit: Listener,
    on_epoch: Callable[[int, EpochRecord], bool],
    output: Path | None,
    onnx: bool,
    stop: StopRequest,
) -> Retrained | None:
    """Trains an exported configuration on its own split and compares with the recorded number. None if it was stopped.

    A configuration with folds or repeats trains all of its models again. `on_epoch` is told the number of the model and each
    epoch, and answers whether to go on.

    With `output`, writes the model there (`model.bundle`; weights of the epoch that counts), and its curve; several models in
    folders of their own, by number. With `onnx`, as ONNX too.

    Raises:
        BundleError, ResourceError: the model cannot be written to this place.
        DataError: the data set or one of its signers is not there, its words differ, or a package that `onnx` needs is missing.
        NegativeAnswer: the training fails.
    """
    stored = ExportedData(**exported.data)
    if output is not None:
        require_new(output)
    if onnx:
        require_onnx()
    data_set = open_recorded(stored, data, runs)
    split = _split(stored, data_set)
    used_seed = exported.seed if seed is None else seed
    found, here = fingerprint(data_set), made_with(device)
    differences = differences_of(exported, found, used_seed, here)
    plan = Plan(objective=Objective(**exported.objective), repeats=exported.repeats)  # type: ignore[arg-type]  # it was checked
    curves = Curves(plan.objective, one_by_one=True)
    try:
        folds = TrialClips(data_set, split, data_store(runs), emit).folds(configs.preprocess)
        trainings = start_trainings(configs, used_seed, device, plan, folds, len(data_set.words))
        for number, training in enumerate(trainings):
            curves.histories[number] = fit(training, functools.partial(on_epoch, number))
            if stop.reason:
                return None
    except (Diverged, ValueError) as error:
        raise NegativeAnswer(
            "the training failed", got=str(error), hint="was the file changed? `python -m search export` writes it anew"
        ) from error
    used = trainings[0].label_smoothing_used
    now = measured([plan.objective.kept_epoch(history) for history in curves.histories.values()])
    result = Retrained(
        name=compared_name(plan.objective),
        recorded=float(exported.recorded[compared_name(plan.objective)]),
        value=curves.value,
        measured=now,
        differences=differences,
        invalid=why_invalid(configs.train, len(data_set.words), curves.histories, used),
    )
    if output is not None:
        # What is known of the configuration was found on the recorded data, and is no word on others.
        unknown: dict[str, Any] = {"baseline": {}, "confirmed": {}, "sealed": {}, "front": []}
        again = replace(
            exported,
            **({} if found == stored.fingerprint else unknown),
            seed=used_seed,
            recorded={**now, result.name: result.value},
            data={**exported.data, "folder": str(data_set.folder), "fingerprint": found},
            made_with=here,
        )
        _write(output, trainings, folds, exported, again, configs, plan, differences, onnx=onnx)
    return result


def open_recorded(stored: ExportedData, folder: Path | None, runs: Path) -> DataSet:
    """The data set of a record, from where it lay or from another folder.

    Raises:
        DataError: it is not there, or its words differ.
    """
    data_set = open_indexed(folder or Path(stored.folder), runs)
    if list(data_set.words) != stored.words:
        raise DataError(
            "the words are not those of the record",
            file=data_set.folder,
            got=", ".join(data_set.words)[:100],
            expected=", ".join(stored.words)[:100],
        )
    return data_set


def _split(stored: ExportedData, data_set: DataSet) -> Split:
    """The split of the record. Its folds are taken as they were drawn."""
    if not stored.folds:
        return split_signers(data_set.words_of, train=stored.train, validation=stored.validation, test="none")
    for fold in stored.folds:
        rest = [signer for signer in stored.train if signer not in fold]
        split_signers(data_set.words_of, train=rest, validation=fold, test="none")  # refuses what is not there
    return Split(tuple(stored.train), (), (), folds=tuple(tuple(fold) for fold in stored.folds))


def differences_of(exported: Exported, data_fingerprint: str, seed: int, here: Mapping[str, Any]) -> list[str]:
    """What is not as it is recorded, in words. `here` as `made_with` gives it."""
    found = []
    if data_fingerprint != exported.data["fingerprint"]:
        found.append(f"data: fingerprint {exported.data['fingerprint'][:12]}... -> {data_fingerprint[:12]}...")
    if seed != exported.seed:
        found.append(f"seed: {exported.seed} -> {seed}")
    for name in sorted(here.keys() | exported.made_with.keys()):
        was, now = exported.made_with.get(name, "not recorded"), here.get(name, "not there")
        if was != now and name != "optuna":  # the sampler has no part in training
            found.append(f"{name}: {was} -> {now}")
    return found


def _write(
    folder: Path,
    trainings: Sequence[Training],
    folds: Sequence[Fold],
    exported: Exported,
    again: Exported,
    configs: Configs,
    plan: Plan,
    differences: Sequence[str],
    *,
    onnx: bool,
) -> None:
    """A model with its numbers for each training: in the folder itself, or numbered in it where there are several.

    `exported` is the record, whose numbers are the search's; `again` the same with what it gave now.
    """
    for number, training in enumerate(trainings):
        fold, record = folds[number // plan.repeats], training.kept_epoch
        place = folder if len(trainings) == 1 else folder / str(number)
        among = (
            ""
            if len(trainings) == 1
            else f", number {number} of {len(trainings)}: each has its own seed, and its own fold where there are folds"
        )
        validation = {"signers": list(fold.signers), "clips": len(fold.validation), **measured([record])}
        made = Made(
            kind="retrained",
            text=f"the configuration of {trial_name(exported.trial)} trained again{among}",
            seed=training_seed(again.seed, number),
            epochs=record.epoch,
            temperature=record.temperature,
            made_with=again.made_with,
            train=fold.trained_on,
            fingerprint=again.data["fingerprint"],
            differences=differences,
            validation=validation,
        )
        write_model(place, training.kept_model(), configs, exported, made, onnx=onnx, again=again)
        with os_errors("the curve cannot be written", where=place, hint="is the disk full or read-only? Name another folder"):
            write_atomically(place / "curve.csv", curve_text({number: training.history}))
