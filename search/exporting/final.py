"""`retrain --all-signers`: one model from every signer, for use, when the search is over.

No signer is left to stop on or to measure it on. The number of epochs and the temperature are those of the search, and what to
expect of the model is what its configuration gave on signers that it had not seen. Sealed signers take part only where a test
has opened them before: else the study would lose its test unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_utils.prepared import DataSet, fingerprint
from data_utils.splits import Split
from model.bundle import require_new
from model.metrics import TEMPERATURES
from model.objective import Objective
from model.onnx import require_onnx
from model.record import EpochRecord
from model.training import Diverged, Training, fit
from search.definition.settings import Configs
from search.errors import DefinitionError, NegativeAnswer
from search.events import Listener
from search.exporting.export import EXPORT_HINT, Exported, ExportedData
from search.exporting.retrain import differences_of, open_recorded
from search.exporting.writing import Made, write_model
from search.trial.clips import TrialClips, data_store
from search.trial.machine import made_with
from search.wording import trial_name


@dataclass(frozen=True, kw_only=True)
class FinalPlan:
    """What will be trained."""

    data: DataSet
    signers: tuple[str, ...]
    """Everybody who trains it."""

    sealed: tuple[str, ...]
    """Those of them who were sealed until a test opened them."""

    left_out: tuple[str, ...]
    """Sealed signers whom no test has opened."""

    epochs: int
    temperature: float
    """That of the search; 1 where none was recorded."""

    seed: int
    fingerprint: str
    made_with: dict[str, Any]
    differences: list[str]
    """In words, what is not as it is recorded."""


def plan_final(
    exported: Exported,
    configs: Configs,
    *,
    data: Path | None,
    seed: int | None,
    device: str,
    runs: Path,
    output: Path,
    onnx: bool,
) -> FinalPlan:
    """Looks at everything that a final training needs, before it begins.

    Raises:
        BundleError, ResourceError: the model cannot be written to this place.
        DataError: the data set or one of its signers is not there, its words differ, or a package that `onnx` needs is missing.
        DefinitionError: the record lacks a number that the training or the model's card needs.
    """
    stored = ExportedData(**exported.data)
    epochs, temperature = _recorded(exported)
    require_new(output)
    if onnx:
        require_onnx()
    data_set = open_recorded(stored, data, runs)
    opened = tuple(stored.test) if exported.sealed else ()
    signers = (*stored.train, *stored.validation, *opened)
    for signer in signers:
        data_set.entries_of([signer], mirrored=False)
    used_seed, found, here = exported.seed if seed is None else seed, fingerprint(data_set), made_with(device)
    differences = differences_of(exported, found, used_seed, here)
    if "temperature" not in exported.recorded:
        differences.append(f"temperature: not recorded -> {temperature} (its probabilities are not calibrated)")
    return FinalPlan(
        data=data_set,
        signers=signers,
        sealed=opened,
        left_out=() if opened else tuple(stored.test),
        epochs=min(epochs, configs.train.epochs),
        temperature=temperature,
        seed=used_seed,
        fingerprint=found,
        made_with=here,
        differences=differences,
    )


def _recorded(exported: Exported) -> tuple[int, float]:
    """The epochs and the temperature of the search. Files of schema 1 have no temperature: 1 leaves the logits as they are."""
    numbers = {"temperature": 1.0, **exported.recorded}
    for name in ("epoch", "val_top1", "val_loss"):
        if name not in numbers:
            raise DefinitionError(f"the exported configuration records no {name}", hint=EXPORT_HINT)
    epochs, temperature = numbers["epoch"], numbers["temperature"]
    if epochs != epochs // 1 or epochs < 1:
        raise DefinitionError("`recorded.epoch` has a wrong value", got=str(epochs), expected="1 or more", hint=EXPORT_HINT)
    low, high = TEMPERATURES
    if not low <= temperature <= high:
        what = "`recorded.temperature` has a wrong value"
        raise DefinitionError(what, got=str(temperature), expected=f"{low} to {high}", hint=EXPORT_HINT)
    return int(epochs), float(temperature)


def train_final(
    plan: FinalPlan,
    exported: Exported,
    configs: Configs,
    *,
    device: str,
    runs: Path,
    output: Path,
    onnx: bool,
    emit: Listener,
    on_epoch: Callable[[EpochRecord], bool],
) -> Made | None:
    """Trains on all signers of the plan for its number of epochs, and writes the model.

    `on_epoch` answers whether to go on; None if it said no. The step size follows the schedule of the search up to that epoch,
    and there is no early end. The same file, data and machine give the same model.

    Raises:
        NegativeAnswer: the training fails.
        ResourceError: the model cannot be written.
    """
    try:
        split = Split(train=plan.signers, validation=(), test=plan.left_out)
        clips = TrialClips(plan.data, split, data_store(runs), emit).together(configs.preprocess)
        training = Training(
            configs.model,
            configs.train,
            configs.augment,
            train=clips,
            validation=None,
            num_words=len(plan.data.words),
            seed=plan.seed,
            device=device,
            objective=Objective(reduce="last"),
        )
        fit(training, lambda record: on_epoch(record) and record.epoch < plan.epochs)
    except (Diverged, ValueError) as error:
        raise NegativeAnswer(
            "the training failed", got=str(error), hint="was the file changed? `python -m search export` writes it anew"
        ) from error
    if len(training.history) < plan.epochs:
        return None
    made = Made(
        kind="final",
        text=f"the configuration of {trial_name(exported.trial)} trained on all signers"
        f"{' but the sealed ones' if plan.left_out else ''} for the epochs of the search",
        seed=plan.seed,
        epochs=plan.epochs,
        temperature=plan.temperature,
        made_with=plan.made_with,
        train=plan.signers,
        fingerprint=plan.fingerprint,
        left_out=plan.left_out,
        differences=plan.differences,
    )
    write_model(output, training.kept_model(), configs, exported, made, onnx=onnx)
    return made
