"""Training an exported configuration again: does its number come back?"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_utils.errors import DataError
from data_utils.files import write_whole
from data_utils.prepared import DataSet, fingerprint
from data_utils.splits import Split, split_signers
from model.objective import Objective
from model.record import EpochRecord
from model.training import Diverged, Training, fit
from search.coordinator import StopRequest
from search.curves import Curves
from search.definition import Plan
from search.errors import DefinitionError, NegativeAnswer
from search.events import Listener
from search.machine import made_with
from search.models import save_models
from search.parts import Parts, data_store, open_indexed
from search.records import curve_text
from search.results.export import Exported, ExportedData, compared_name
from search.score import measured, why_invalid
from search.settings import Configs
from search.trial import start_trainings
from search.yaml_text import dump_yaml


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
    stop: StopRequest,
) -> Retrained | None:
    """Trains an exported configuration on its own split and compares with the recorded number. None if it was stopped.

    A configuration with folds or repeats trains all of its models again. `on_epoch` is told the number of the model and each
    epoch, and answers whether to go on.

    With `output`, writes `model.safetensors` (weights of the epoch that counts; several models are numbered), `config.yaml`,
    `metrics.json` and `curve.csv` there.

    Raises:
        DataError: the data set or one of its signers is not there, or its words differ.
        NegativeAnswer: the training fails.
    """
    stored = ExportedData(**exported.data)
    data_set = open_indexed(data or Path(stored.folder), runs)
    if list(data_set.words) != stored.words:
        raise DataError(
            "the words are not those of the record",
            file=data_set.folder,
            got=", ".join(data_set.words)[:100],
            expected=", ".join(stored.words)[:100],
        )
    split = _split(stored, data_set)
    used_seed = exported.seed if seed is None else seed
    differences = _differences(exported, fingerprint(data_set), used_seed, made_with(device))
    plan = Plan(objective=Objective(**exported.objective), repeats=exported.repeats)  # type: ignore[arg-type]  # it was checked
    curves = Curves(plan.objective, one_by_one=True)
    try:
        turns = Parts(data_set, split, data_store(runs), emit).turns(configs.preprocess)
        trainings = start_trainings(configs, used_seed, device, plan, turns, len(data_set.words))
        for number, training in enumerate(trainings):
            curves.histories[number] = fit(training, functools.partial(on_epoch, number))
            if stop.reason:
                return None
    except (Diverged, ValueError) as error:
        raise NegativeAnswer(
            "the training failed", got=str(error), hint="was the file changed? `python -m search export` writes it anew"
        ) from error
    used = trainings[0].label_smoothing_used
    result = Retrained(
        name=compared_name(plan.objective),
        recorded=float(exported.recorded[compared_name(plan.objective)]),
        value=curves.value,
        measured=measured([plan.objective.epoch(history) for history in curves.histories.values()]),
        differences=differences,
        invalid=why_invalid(configs.train, len(data_set.words), curves.histories, used),
    )
    if output is not None:
        _write(output, trainings, configs, used_seed, result, curves, data_set.words)
    return result


def _split(stored: ExportedData, data_set: DataSet) -> Split:
    """The split of the record. Its folds are taken as they were drawn."""
    if not stored.folds:
        return split_signers(data_set.words_of, train=stored.train, validation=stored.validation, test="none")
    for fold in stored.folds:
        rest = [signer for signer in stored.train if signer not in fold]
        split_signers(data_set.words_of, train=rest, validation=fold, test="none")  # refuses what is not there
    return Split(tuple(stored.train), (), (), folds=tuple(tuple(fold) for fold in stored.folds))


def _differences(exported: Exported, data_fingerprint: str, seed: int, here: Mapping[str, Any]) -> list[str]:
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
    configs: Configs,
    seed: int,
    result: Retrained,
    curves: Curves,
    words: tuple[str, ...],
) -> None:
    try:
        save_models(trainings, folder)
        settings = {"seed": seed, "words": list(words), **configs.as_dict()}
        write_whole(folder / "config.yaml", dump_yaml(settings))
        metrics = {"schema": 1, result.name: result.value, **result.measured, f"recorded_{result.name}": result.recorded}
        write_whole(folder / "metrics.json", json.dumps(metrics, indent=1) + "\n")
        write_whole(folder / "curve.csv", curve_text(curves.histories))
    except OSError as error:
        raise DefinitionError(
            "the output folder cannot be written", where=str(folder), got=error.strerror, hint="name another with --output"
        ) from error
