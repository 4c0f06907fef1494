"""Trained models as folders that stand alone (`model.bundle`), with what is known of them.

`metrics.json` keeps apart what was measured of this very model (`this_model`) and what is known of its configuration, trained
several times (`configuration`): the first is one draw, the second says what to expect of another.
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
from model.transformer import TransformerEnISLR
from search.definition.settings import Configs
from search.errors import NegativeAnswer, os_errors
from search.exporting.card import card_text
from search.exporting.export import Exported, ExportedData, export_text
from search.study.companion import SEED, companion_name, fresh_trials, trainings_of
from search.study.openings import Opening, openings
from search.study.trials import trial_result
from search.trial.files import read_rows, trial_folder
from search.trial.job import training_seed
from search.trial.outcome import SignerScore
from search.trial.result import MEASURED
from search.trial.weights import read_models
from search.wording import trial_name

METRICS_SCHEMA = 2


@dataclass(frozen=True, kw_only=True)
class Made:
    """How a model came to be, and what was measured of it."""

    kind: Literal["confirmed", "retrained", "final"]
    """Of a confirmation; trained again from a file; trained on all signers that may be seen, and measured on nobody."""

    text: str
    """Why it is this one, in words."""

    seed: int
    """Decides starting weights, order of the clips, augmentation and dropout."""

    epochs: int
    """Epochs after which its weights were kept."""

    temperature: float
    made_with: dict[str, Any]
    """Versions and machine."""

    train: Sequence[str]
    """Signers that it was trained on."""

    fingerprint: str
    """Of the data set that held their clips."""

    left_out: Sequence[str] = ()
    """Sealed signers whom a model for use had to do without."""

    differences: Sequence[str] = ()
    """In words, what is not as in the record that it was trained from."""

    validation: dict[str, Any] = field(default_factory=dict)
    """What it gave on the validation clips, and whose they are; the epoch was chosen on them."""

    sealed: dict[str, Any] = field(default_factory=dict)
    """What it gave on the sealed clips, and whose they are; empty if they were not opened for it."""


def metrics_of(exported: Exported, made: Made) -> dict[str, Any]:
    """What `metrics.json` holds: plain values."""
    return {
        "schema": METRICS_SCHEMA,
        "kind": made.kind,
        "study": exported.study,
        "trial": exported.trial,
        "objective": dataclasses.asdict(Objective(**exported.objective)),  # type: ignore[arg-type]  # it was checked
        "words": len(exported.data["words"]),
        "this_model": {
            "about": made.text,
            "seed": made.seed,
            "epochs": made.epochs,
            "temperature": made.temperature,
            "made_with": made.made_with,
            "train": {"signers": list(made.train), "left_out": list(made.left_out), "fingerprint": made.fingerprint},
            "differences": list(made.differences),
            "validation": made.validation or None,
            "sealed": made.sealed or None,
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
    made: Made,
    *,
    onnx: bool = False,
    again: Exported | None = None,
) -> None:
    """Writes a model with its configuration, its numbers and a model card.

    `exported` is the record that it comes from; `again`, if it is another, is what trains this very model again.

    Raises:
        BundleError: there is something at this place already.
        ExplainedError: the packages that `onnx` needs are not installed.
        ResourceError: it cannot be written.
    """
    metrics = metrics_of(exported, made)
    with os_errors("the model cannot be written", where=folder, hint="is the disk full or read-only? Name another folder"):
        write_bundle(
            folder,
            model=model,
            preprocess=configs.preprocess,
            temperature=made.temperature,
            words=exported.data["words"],
            metrics=metrics,
            config=export_text(again or exported),
            card=card_text(exported, metrics, folder.name),
            onnx=onnx,
        )


def export_model(
    study: optuna.Study,
    storage: optuna.storages.BaseStorage,
    exported: Exported,
    configs: Configs,
    folder: Path,
    *,
    runs: Path,
    onnx: bool,
) -> Made:
    """Writes a model that a confirmation has trained with this configuration: of all of them the one in the middle, of an even
    number the worse of the two.

    Raises:
        NegativeAnswer: none was trained, or its file is gone.
        BundleError, ExplainedError, ResourceError: see `write_model`.
    """
    require_new(folder)
    if onnx:
        require_onnx()
    again = f"`python -m search export {study.study_name} --output best.yaml`, then `python -m search retrain best.yaml"
    again += f" --output {folder}"
    if exported.data["folds"]:
        raise NegativeAnswer(
            "with folds each model was trained without some of the training signers",
            hint=f"{again} --all-signers` trains one on all of them",
        )
    fresh = trainings_of(fresh_trials(study, storage), exported.trial)
    trained = [one for trial in fresh if "models" in trial_result(trial) for one in _models(trial, exported)]
    if not trained:
        raise NegativeAnswer(
            f"no model of {trial_name(exported.trial)} was kept: a search keeps numbers, a confirmation keeps its models",
            hint=f"`python -m search confirm {study.study_name}` comes first; or {again}`",
        )
    trained.sort(key=lambda one: one.value)  # lower is better
    chosen = trained[len(trained) // 2]
    place = trial_folder(runs, companion_name(study.study_name), chosen.trial.number)
    digests = trial_result(chosen.trial)["models"]
    files = read_models(place, digests)
    if not files:
        raise NegativeAnswer(
            "the model's file is gone, or is not what was written",
            got=f"nothing whole in {place}",
            hint=f"{again}` trains it again",
        )
    model = TransformerEnISLR(configs.model, len(exported.data["words"]), torch.Generator())
    model.load_state_dict(load(files[chosen.training]))
    clips = sum(one.clips for one in read_rows(SignerScore, place / "signers.csv") if one.training == chosen.training)
    made = _made(chosen, clips, len(trained), exported, openings(study))
    write_model(folder, model, configs, exported, made, onnx=onnx)
    return made


@dataclass(frozen=True)
class _Trained:
    """One model of a confirmation."""

    trial: FrozenTrial
    training: int
    value: float
    """The objective."""

    measured: dict[str, Any]


def _models(trial: FrozenTrial, exported: Exported) -> list[_Trained]:
    result = trial_result(trial)
    name = "{metric}_{reduce}".format(**exported.objective)
    ones = result.get("trainings", [{**result, "training": 0, "value": result["all_values"][name]}])
    return [_Trained(trial, one["training"], one["value"], one) for one in ones]


def _made(chosen: _Trained, clips: int, count: int, exported: Exported, looks: Sequence[Opening]) -> Made:
    data = ExportedData(**exported.data)
    number = int(chosen.trial.params[SEED])
    return Made(
        kind="confirmed",
        text=_which(count, trial_name(exported.trial), exported.objective["metric"]),
        seed=training_seed(int(chosen.trial.user_attrs["seed"]), chosen.training),
        epochs=int(chosen.measured["epoch"]),
        temperature=float(chosen.measured["temperature"]),
        made_with=json.loads(chosen.trial.user_attrs["made_with"]),
        train=data.train,
        fingerprint=data.fingerprint,
        validation={"signers": data.validation, "clips": clips, **{name: chosen.measured[name] for name in MEASURED}},
        sealed=_sealed(exported.trial, number, chosen.training, looks),
    )


def _which(count: int, trial: str, metric: str) -> str:
    """Which of a confirmation's models the chosen one is, in words."""
    if count == 1:
        return f"the only model of {trial} that the confirmation trained"
    of = f"of the {count} models of {trial} that the confirmation trained, the"
    if count == 2:
        return f"{of} worse by {metric}"
    middle = "one" if count % 2 else "worse of the two"
    return f"{of} {middle} in the middle by {metric}: neither the luckiest nor the unluckiest"


def _sealed(trial: int, seed: int, training: int, looks: Sequence[Opening]) -> dict[str, Any]:
    """What the sealed signers said of one model, the last time that they were asked; empty if never."""
    for look in reversed(looks):
        for score in look.scores:
            for one in score.models:
                if (score.trial, one.seed, one.training) == (trial, seed, training):
                    numbers = {
                        name: value for name, value in dataclasses.asdict(one).items() if name not in ("seed", "training")
                    }
                    opened = {"opened": look.count, "time": look.time}
                    return {"signers": list(look.signers), "clips": look.clips, **numbers, **opened}
    return {}
