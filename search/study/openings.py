"""The recorded evaluations on the sealed test signers: when, by which version, of which trial, with which scores."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import search
from data_utils.wording import caution_of
from search.errors import DefinitionError
from search.study.confirmed import from_plain

if TYPE_CHECKING:
    import optuna
    from optuna.study._frozen import FrozenStudy


_ATTRIBUTE = "openings"
RECORD_NAME = "test signers opened/"
"""How the names of studies begin that hold a record of openings (`opening_record.py`)."""


@dataclass(frozen=True, kw_only=True)
class SignerAccuracy:
    """The accuracy on one sealed signer."""

    signer: str
    clips: int
    top1: float
    """Mean over the models, 0..1."""


@dataclass(frozen=True)
class ModelScore:
    """The scores of one model on the sealed clips. `_ts`: after temperature scaling, fitted on its validation clips."""

    seed: int
    """The number of its seed in the confirmation, from 1."""

    training: int
    """Index among the trainings of the seed, from 0: folds in order, and their repeats."""

    top1: float
    loss: float
    """Plain cross-entropy, nats."""

    loss_ts: float
    ece: float
    ece_ts: float


@dataclass(frozen=True, kw_only=True)
class SettingScore:
    """The scores of one setting's models on the sealed clips. Means over the seeds. `_ts`: after temperature scaling."""

    trial: int
    """Its number in the search."""

    seeds: int
    top1: float
    """Share of clips whose most likely word is right, 0..1."""

    top1_sd: float
    """Standard deviation between seeds."""

    loss: float
    """Plain cross-entropy, nats."""

    loss_sd: float
    loss_ts: float
    """Nats. May be higher than `loss`: the temperature was fitted on the validation clips."""

    ece: float
    """Expected calibration error, 0..1, in bins of equal width."""

    ece_ts: float
    ece_mass: float
    """Expected calibration error, 0..1, in bins with equal numbers of clips."""

    ece_mass_ts: float
    temperature: float
    """Mean of the models' temperatures."""

    signers: tuple[SignerAccuracy, ...]
    models: tuple[ModelScore, ...] = ()
    """Each model by itself; empty in openings that earlier versions recorded."""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """One evaluation on the sealed test signers."""

    time: str
    """UTC, ISO 8601."""

    commit: str
    """The version of this tool, with its commit if it runs from its own repository."""

    count: int
    """The number of this opening among all of these signers, from 1, whichever study they were opened for."""

    trial: int
    """The recommended trial."""

    signers: tuple[str, ...]
    clips: int
    split: str = "signers"
    """What the study seals: `signers`, or `clips` of signers that it also trains on."""

    scores: tuple[SettingScore, ...] = ()
    """Of the recommended trial and the baseline; empty if the evaluation was interrupted."""

    gain: float | None = None
    """Accuracy of the recommended trial minus the baseline's; None if the baseline is recommended, or has no models."""

    gain_low: float | None = None
    """Lower end of its 95% interval, over seeds and clips."""

    gain_high: float | None = None

    @property
    def caution(self) -> str:
        """What limits the result; empty for a split by signer."""
        return caution_of(self.split)


def openings(study: optuna.Study | FrozenStudy) -> list[Opening]:
    """Every opening for a study, oldest first.

    Raises:
        DefinitionError: another program has changed them.
    """
    try:
        return [from_plain(Opening, stored) for stored in json.loads(study.user_attrs.get(_ATTRIBUTE, "[]"))]
    except (ValueError, TypeError) as error:
        raise DefinitionError(
            f"the openings of the sealed signers of the study `{study.study_name}` cannot be read",
            got=f"attribute `{_ATTRIBUTE}`: {study.user_attrs[_ATTRIBUTE]!r}"[:100],
            hint="another program has changed them: restore the database from a copy",
        ) from error


def is_record(study: str) -> bool:
    """Whether a study's name is that of a record of openings. No search can have such a name."""
    return study.startswith(RECORD_NAME)


def fingerprint_of(study: FrozenStudy) -> str | None:
    """The fingerprint of a study's data; None for a study of another program, which may store anything."""
    try:
        return str(json.loads(study.user_attrs["data"])["fingerprint"])
    except (ValueError, TypeError, LookupError):
        return None


def store_opening(study: optuna.Study, opening: Opening) -> None:
    """Stores an opening with its study, replacing the same one without scores. Only in the study's turn: a concurrent one would
    be lost. `opening_record.py` keeps it for longer than the study exists."""
    others = [one for one in openings(study) if (one.time, one.count) != (opening.time, opening.count)]
    study.set_user_attr(_ATTRIBUTE, json.dumps([dataclasses.asdict(one) for one in [*others, opening]], ensure_ascii=False))


def tool_version() -> str:
    """This tool's version, with its commit if it runs from its own repository."""
    git = ["git", "-C", str(Path(search.__file__).parent)]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", "__init__.py"], check=True, capture_output=True, timeout=10)
        describe = [*git, "describe", "--always", "--dirty", "--abbrev=40"]
        commit = subprocess.run(describe, check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return f"islr-search {search.__version__}"
    return f"islr-search {search.__version__} {commit.stdout.decode().strip()}"
