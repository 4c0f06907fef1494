"""`search retrain --all-signers`: trains one model on all signers, for use after the search.

No signer is left to choose an epoch or to measure the model on: the number of epochs and the temperature are those of the
search, and the expected accuracy is that of the configuration on signers it had not seen. Sealed test signers are used only if
`search test` has opened them; otherwise the study would lose its test set unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from model.metrics import TEMPERATURES
from model.objective import Objective
from model.record import EpochRecord
from model.training import fit
from search.errors import DefinitionError
from search.events import Listener
from search.exporting.export import EXPORT_HINT, Exported
from search.exporting.setup import Setup, training_errors
from search.exporting.writing import Provenance, write_model
from search.trial.clips import TrialClips
from search.trial.trial_run import new_training
from search.wording import trial_name


@dataclass(frozen=True, kw_only=True)
class FinalPlan:
    """What a training on all signers will do."""

    setup: Setup
    signers: tuple[str, ...]
    """All signers that are trained on."""

    opened: tuple[str, ...]
    """Those of them who were sealed until `search test` opened them."""

    left_out: tuple[str, ...]
    """Sealed signers, who are not trained on; in a split by clip, signers whose sealed clips are not."""

    epochs: int
    temperature: float
    """The temperature of the search; 1 if none was recorded."""

    differences: list[str]
    """What differs from the recorded training, one line each."""


def plan_final(setup: Setup) -> FinalPlan:
    """Chooses signers, epochs and temperature, and checks that they are available.

    Raises:
        DataError: a signer is missing from the data set.
        DefinitionError: the exported configuration lacks a number that the training or the model card needs.
    """
    exported, split = setup.exported, setup.split
    epochs, temperature = _recorded(exported)
    opened = split.test if exported.sealed else ()
    signers = tuple(dict.fromkeys((*split.train, *split.validation, *opened)))
    for signer in signers:
        setup.data.entries_of([signer], mirrored=False)
    differences = list(setup.differences)
    if "temperature" not in exported.recorded:
        differences.append(f"temperature: not recorded -> {temperature} (the probabilities are not calibrated)")
    return FinalPlan(
        setup=setup,
        signers=signers,
        opened=opened,
        left_out=() if opened else split.test,
        epochs=min(epochs, setup.configs.train.epochs),
        temperature=temperature,
        differences=differences,
    )


def _recorded(exported: Exported) -> tuple[int, float]:
    """Epochs and temperature of the search. Schema 1 has no temperature: 1 leaves the logits unchanged."""
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


def train_final(plan: FinalPlan, output: Path, *, emit: Listener, on_epoch: Callable[[EpochRecord], bool]) -> Provenance | None:
    """Trains on the signers of the plan for its number of epochs and writes the model. None if it was stopped.

    `on_epoch` returns whether to continue. The learning rate follows the schedule of the search up to the last epoch, without
    early stopping. The same file, data and machine give the same model.

    Raises:
        NegativeAnswer: the training fails.
        ResourceError: the model cannot be written.
    """
    setup, configs = plan.setup, plan.setup.configs
    trial_clips = TrialClips(setup.data, setup.split, setup.store, emit)
    with training_errors():
        training = new_training(
            configs,
            train=trial_clips.all_clips(configs.preprocess, with_test=not plan.left_out),
            validation=None,
            num_words=len(setup.data.words),
            seed=setup.seed,
            device=setup.device,
            objective=Objective(reduce="last"),
            order=setup.order,
        )
        fit(training, lambda record: on_epoch(record) and record.epoch < plan.epochs)
    if len(training.history) < plan.epochs:
        return None
    who = f"all {setup.split.kind}{' except the sealed ones' if plan.left_out else ''}"
    provenance = Provenance(
        kind="final",
        text=f"the configuration of {trial_name(setup.exported.trial)} trained on {who} for the epochs of the search",
        seed=setup.seed,
        order=setup.order,
        epochs=plan.epochs,
        temperature=plan.temperature,
        made_with=setup.made_with,
        train=plan.signers,
        fingerprint=setup.fingerprint,
        left_out=plan.left_out,
        differences=plan.differences,
    )
    write_model(output, training.kept_model(), configs, setup.exported, provenance, onnx=setup.onnx)
    return provenance
