"""Writes trained models as self-contained folders (`model.bundle`) with their numbers and a model card.

`metrics.json` separates what was measured of this model (`this_model`) from what is known of its configuration over several
trainings (`configuration`): the former is a single draw, the latter is what to expect of another model.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import optuna
import torch
from optuna.trial import FrozenTrial
from safetensors.torch import load

from model.bundle import require_new, write_bundle
from model.objective import Objective
from model.onnx import require_onnx
from model.training import SharedOrder
from model.transformer import TransformerEnISLR
from search.definition.settings import Configs
from search.definition.trial_attributes import attribute
from search.errors import NegativeAnswer, os_errors
from search.exporting.card import card_text
from search.exporting.export import Exported, export_text
from search.study.companion import SEED, complete_trainings, find_companion
from search.study.folder import find_folder
from search.study.openings import Opening, openings
from search.study.trials import trial_result
from search.trial.files import read_rows
from search.trial.job import training_seed
from search.trial.outcome import SignerScore
from search.trial.result import MEASURED
from search.trial.weights import read_models
from search.wording import trial_name

METRICS_SCHEMA = 2
WRITE_HINT = "is the disk full or read-only? Name another folder"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How a model was trained and what was measured of it."""

    kind: Literal["confirmed", "retrained", "final"]
    """Trained by a confirmation; trained again from a file; trained on all available signers and measured on none."""

    text: str
    """Which model it is, as text."""

    seed: int
    """Decides initial weights and dropout, and without `order` the order of the clips and augmentation."""

    order: SharedOrder | None = None
    """The order of the clips, and the augmentation, that the trials of the study share."""

    epochs: int
    """The epoch after which the weights were kept."""

    temperature: float
    made_with: dict[str, Any]
    """Versions and machine."""

    train: Sequence[str]
    """Signers that it was trained on."""

    fingerprint: str
    """Fingerprint of the data set with their clips."""

    left_out: Sequence[str] = ()
    """Sealed signers that a final model was not trained on; in a split by clip, signers whose sealed clips were left out."""

    differences: Sequence[str] = ()
    """What differs from the recorded training, one line each."""

    validation: dict[str, Any] = field(default_factory=dict)
    """Results on the validation clips, on which the epoch was chosen, and their signers."""

    sealed: dict[str, Any] = field(default_factory=dict)
    """Results on the sealed clips, and their signers; empty if they were not opened for this model."""


def metrics_of(exported: Exported, origin: Provenance) -> dict[str, Any]:
    """The content of `metrics.json` as plain values."""
    return {
        "schema": METRICS_SCHEMA,
        "kind": origin.kind,
        "study": exported.study,
        "study_id": exported.study_id,
        "trial": exported.trial,
        **({"split": "clips", "caution": exported.caution} if exported.caution else {}),
        "objective": dataclasses.asdict(Objective(**exported.objective)),  # type: ignore[arg-type]  # it was checked
        "words": len(exported.data["words"]),
        "this_model": {
            "about": origin.text,
            "seed": origin.seed,
            **({} if origin.order is None else {"order": dataclasses.asdict(origin.order)}),
            "epochs": origin.epochs,
            "temperature": origin.temperature,
            "made_with": origin.made_with,
            "train": {"signers": list(origin.train), "left_out": list(origin.left_out), "fingerprint": origin.fingerprint},
            "differences": list(origin.differences),
            "validation": origin.validation or None,
            "sealed": origin.sealed or None,
        },
        "configuration": {
            "fingerprint": exported.data["fingerprint"],
            "searched": exported.recorded,
            "baseline": exported.baseline or None,
            "confirmed": exported.confirmed or None,
            "sealed": exported.sealed or None,
        },
    }


def write_model(
    folder: Path,
    model: TransformerEnISLR,
    configs: Configs,
    exported: Exported,
    provenance: Provenance,
    *,
    onnx: bool = False,
    retrained: Exported | None = None,
    why: str = "",
) -> None:
    """Writes a model with its configuration, its numbers and a model card.

    `exported` is the configuration whose results the card shows. `retrained` is the one that trains exactly this model again,
    if it is a different one. `why` is the reason for this trial (see `export_text`).

    Raises:
        BundleError: the folder exists already.
        ExplainedError: the packages that `onnx` needs are not installed.
        ResourceError: the model cannot be written.
    """
    metrics = metrics_of(exported, provenance)
    with os_errors("the model cannot be written", where=folder, hint=WRITE_HINT):
        write_bundle(
            folder,
            model=model,
            preprocess=configs.preprocess,
            temperature=provenance.temperature,
            words=exported.data["words"],
            metrics=metrics,
            config=export_text(retrained or exported, why),
            card=card_text(exported, metrics, folder.name),
            onnx=onnx,
        )


@dataclass(frozen=True)
class ConfirmModel:
    """A model that a confirmation trained."""

    trial: FrozenTrial
    training: int
    """Its index among the trainings of the trial."""

    value: float
    """Value of the objective."""

    measured: dict[str, Any]


def export_model(
    study: optuna.Study,
    storage: optuna.storages.BaseStorage,
    exported: Exported,
    configs: Configs,
    folder: Path,
    *,
    runs: Path,
    onnx: bool,
    why: str = "",
) -> Provenance:
    """Writes the median model of those that a confirmation trained with this configuration.

    Of an even number, it takes the worse of the two in the middle.

    Raises:
        NegativeAnswer: there is no such model, or its file is missing.
        BundleError, ExplainedError, ResourceError: same as `write_model`.
    """
    require_new(folder)
    if onnx:
        require_onnx()
    companion = find_companion(study, storage)
    models = _confirm_models(study, companion, exported, folder)
    chosen = models[len(models) // 2]
    assert companion is not None  # it has models
    place = find_folder(runs, companion).of_trial(chosen.trial)
    files = read_models(place, trial_result(chosen.trial)["models"])
    if not files:
        raise NegativeAnswer(
            "the model's file is missing or was changed",
            got=f"no intact file in {place}",
            hint=f"train it again: {_retrain_commands(study, folder)}",
        )
    model = TransformerEnISLR(configs.model, len(exported.data["words"]), torch.Generator())
    model.load_state_dict(load(files[chosen.training]))
    clips = sum(row.clips for row in read_rows(SignerScore, place / "signers.csv") if row.training == chosen.training)
    provenance = provenance_of(chosen, clips, len(models), exported, openings(study))
    write_model(folder, model, configs, exported, provenance, onnx=onnx, why=why)
    return provenance


def _confirm_models(
    study: optuna.Study, companion: optuna.Study | None, exported: Exported, folder: Path
) -> list[ConfirmModel]:
    """The models that the confirmation trained with this configuration, the best first. Raises `NegativeAnswer` for none."""
    if exported.data["folds"]:
        what = "with folds, no model was trained on all training signers"
        raise NegativeAnswer(what, hint=f"train one: {_retrain_commands(study, folder, ' --all-signers')}")
    name = "{metric}_{reduce}".format(**exported.objective)
    models = []
    trainings = [] if companion is None else companion.get_trials(deepcopy=False)
    for trial in complete_trainings(trainings, exported.trial):
        result = trial_result(trial)
        if "models" in result and (name in result.get("all_values", {}) or "trainings" in result):
            trainings = result.get("trainings", [{**result, "training": 0, "value": result["all_values"][name]}])
            models += [ConfirmModel(trial, one["training"], one["value"], one) for one in trainings]
    if not models:
        raise NegativeAnswer(
            f"there is no model of {trial_name(exported.trial)}: a search keeps only numbers, a confirmation keeps its models",
            hint=f"run `islr-search confirm {study.study_name}` first, or train one: {_retrain_commands(study, folder)}",
        )
    return sorted(models, key=lambda model: model.value)  # lower is better


def _retrain_commands(study: optuna.Study, folder: Path, option: str = "") -> str:
    """The commands that train a model from the configuration."""
    export = f"`islr-search export {study.study_name} --output best.yaml`"
    return f"{export}, then `islr-search retrain best.yaml --output {folder}{option}`"


def provenance_of(
    chosen: ConfirmModel, clips: int, count: int, exported: Exported, openings_of_signers: Sequence[Opening]
) -> Provenance:
    """The provenance of a confirmation's model, chosen from `count`. `clips` is the number of its validation clips."""
    data = exported.recorded_data
    return Provenance(
        kind="confirmed",
        text=_which(count, trial_name(exported.trial), exported.objective["metric"]),
        seed=training_seed(int(attribute(chosen.trial, "seed")), chosen.training),
        epochs=int(chosen.measured["epoch"]),
        temperature=float(chosen.measured["temperature"]),
        made_with=json.loads(attribute(chosen.trial, "made_with", "{}")),
        train=data.train,
        fingerprint=data.fingerprint,
        validation={"signers": data.validation, "clips": clips, **{name: chosen.measured[name] for name in MEASURED}},
        sealed=_sealed_results(exported.trial, chosen, openings_of_signers),
    )


def _which(count: int, trial: str, metric: str) -> str:
    """Which of a confirmation's models was chosen, as text."""
    if count == 1:
        return f"the only model that the confirmation trained for {trial}"
    place = "the worse" if count == 2 else "the median" if count % 2 else "the upper median"
    return f"{place} by {metric} of the {count} models that the confirmation trained for {trial}"


def _sealed_results(trial: int, chosen: ConfirmModel, openings_of_signers: Sequence[Opening]) -> dict[str, Any]:
    """The model's results in the latest opening that includes it; empty if there is none."""
    key = (trial, int(chosen.trial.params[SEED]), chosen.training)
    for opening in reversed(openings_of_signers):
        for score in opening.scores:
            for model in score.models:
                if (score.trial, model.seed, model.training) == key:
                    numbers = {name: getattr(model, name) for name in ("top1", "loss", "loss_ts", "ece", "ece_ts")}
                    opened = {"opened": opening.count, "time": opening.time}
                    return {"signers": list(opening.signers), "clips": opening.clips, **numbers, **opened}
    return {}
