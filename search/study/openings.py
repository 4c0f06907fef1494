"""When the sealed signers of a study were opened, by which version, for which trial, and what was seen."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import search
from search.study.confirmed import known_fields

if TYPE_CHECKING:
    import optuna


_ATTRIBUTE = "openings"


@dataclass(frozen=True, kw_only=True)
class SignerAccuracy:
    """One sealed signer."""

    signer: str
    clips: int
    top1: float
    """Mean over the models, 0..1."""


@dataclass(frozen=True)
class ModelScore:
    """One model on the sealed clips."""

    seed: int
    """The number of its seed in the confirmation, from 1."""

    training: int
    """Which of the seed's trainings it is, from 0: folds in turn, and their repeats."""

    top1: float
    loss: float
    """Plain cross-entropy, nats."""

    loss_ts: float
    """After dividing the logits by the temperature that suited its validation clips, nats."""

    ece: float
    ece_ts: float
    """The same after that temperature."""


@dataclass(frozen=True, kw_only=True)
class SealedScore:
    """What the models of one setting do on the sealed clips. Means over the seeds."""

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
    """After dividing the logits by the temperature that suited the validation clips, nats. May be worse than `loss`."""

    ece: float
    """Expected calibration error, 0..1, in bins of equal width."""

    ece_ts: float
    """The same after that temperature."""

    ece_mass: float
    """Expected calibration error, 0..1, in bins of equally many clips."""

    ece_mass_ts: float
    """The same after that temperature."""

    temperature: float
    """That temperature."""

    signers: tuple[SignerAccuracy, ...]
    models: tuple[ModelScore, ...] = ()
    """Each model by itself; none in what earlier versions wrote."""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """One look at the sealed signers."""

    time: str
    """UTC, ISO 8601."""

    commit: str
    """Which version of this tool looked: its commit where it runs from a repository of its own, and its version."""

    count: int
    """The how-manieth look at these signers it is, from 1, whichever study they were opened for."""

    trial: int
    """The recommended trial."""

    signers: tuple[str, ...]
    clips: int
    scores: tuple[SealedScore, ...] = ()
    """Of the recommended trial and the baseline; none for a look that was cut off."""

    gain: float | None = None
    """Accuracy of the recommended trial minus the baseline's; None if the baseline is recommended, or has no models."""

    gain_low: float | None = None
    """Lower end of its 95 % interval, over seeds and clips."""

    gain_high: float | None = None


def openings(study: optuna.Study) -> list[Opening]:
    """Every look that was taken for a study, the first first."""
    return [_opening(stored) for stored in json.loads(study.user_attrs.get(_ATTRIBUTE, "[]"))]


def all_openings(study: optuna.Study, storage: optuna.storages.BaseStorage) -> list[tuple[str, Opening]]:
    """Every look at a study's sealed signers, or at some of them, with the study that it was taken for, the first first.

    Studies of the same database on the same data count: under another name a study has no other signers.
    """
    mine = json.loads(study.user_attrs["data"])
    found = []
    for one in storage.get_all_studies():
        data = json.loads(one.user_attrs.get("data", "{}"))
        if _ATTRIBUTE in one.user_attrs and data.get("fingerprint") == mine["fingerprint"]:
            looks = [_opening(stored) for stored in json.loads(one.user_attrs[_ATTRIBUTE])]
            found += [(one.study_name, look) for look in looks if set(look.signers) & set(mine["test"])]
    return sorted(found, key=lambda pair: (pair[1].time, pair[1].count))


def store_opening(study: optuna.Study, opening: Opening) -> None:
    """Keeps a look, in the place of the same one without scores. Only in the study's turn: a look beside it would be lost."""
    kept = [one for one in openings(study) if (one.time, one.count) != (opening.time, opening.count)]
    study.set_user_attr(_ATTRIBUTE, json.dumps([dataclasses.asdict(one) for one in [*kept, opening]], ensure_ascii=False))


def opened_before(study: optuna.Study, storage: optuna.storages.BaseStorage) -> str:
    """That the sealed signers were opened, in words; empty if they were not."""
    looks = all_openings(study, storage)
    if not looks:
        return ""
    times = "once" if len(looks) == 1 else f"{len(looks)} times"
    others = sorted({name for name, _ in looks if name != study.study_name})
    whose = f" (for {', '.join(f'`{name}`' for name in others)} too)" if others else ""
    return f"the sealed signers of `{study.study_name}` were opened {times}{whose}, last on {looks[-1][1].time[:10]}"


def tool_version() -> str:
    """This tool's version, with its commit where it runs from a repository that holds it."""
    folder = Path(search.__file__).parent
    git = ["git", "-C", str(folder)]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", "__init__.py"], check=True, capture_output=True, timeout=10)
        found = subprocess.run(
            [*git, "describe", "--always", "--dirty", "--abbrev=40"], check=True, capture_output=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return f"islr-search {search.__version__}"
    return f"islr-search {search.__version__} {found.stdout.decode().strip()}"


def _opening(stored: dict[str, Any]) -> Opening:
    scores = []
    for score in stored["scores"]:
        signers = tuple(SignerAccuracy(**known_fields(SignerAccuracy, one)) for one in score["signers"])
        models = tuple(ModelScore(**known_fields(ModelScore, one)) for one in score.get("models", ()))
        scores.append(SealedScore(**known_fields(SealedScore, {**score, "signers": signers, "models": models})))
    whole = {**stored, "signers": tuple(stored["signers"]), "scores": tuple(scores)}
    return Opening(**known_fields(Opening, whole))
