"""When the sealed signers of a study were opened, by which version, for which trial, and what was seen."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import search

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


@dataclass(frozen=True, kw_only=True)
class Opening:
    """One look at the sealed signers."""

    time: str
    """UTC, ISO 8601."""

    commit: str
    """Which version of this tool looked: its commit where it runs from a repository of its own, and its version."""

    count: int
    """The how-manieth look at this study's sealed signers it is, from 1."""

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
    """Every look at a study's sealed signers, the first first."""
    return [_opening(stored) for stored in json.loads(study.user_attrs.get(_ATTRIBUTE, "[]"))]


def store_opening(study: optuna.Study, opening: Opening) -> None:
    """Keeps a look, in the place of one with the same count."""
    kept = [one for one in openings(study) if one.count != opening.count]
    study.set_user_attr(_ATTRIBUTE, json.dumps([dataclasses.asdict(one) for one in [*kept, opening]], ensure_ascii=False))


def opened_before(study: optuna.Study) -> str:
    """That the sealed signers were opened, in words; empty if they were not."""
    looks = openings(study)
    if not looks:
        return ""
    times = "once" if len(looks) == 1 else f"{len(looks)} times"
    return f"its sealed signers were opened {times}, last on {looks[-1].time[:10]}"


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
    scores = tuple(
        SealedScore(**{**score, "signers": tuple(SignerAccuracy(**one) for one in score["signers"])})
        for score in stored["scores"]
    )
    return Opening(**{**stored, "signers": tuple(stored["signers"]), "scores": scores})
