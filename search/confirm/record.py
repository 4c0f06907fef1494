"""What a confirmation has found, kept with the study that it confirms. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
import datetime
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search.confirm.found import Confirmation, confirmation_of, known_fields

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

_ATTRIBUTE = "confirmed"
_COMPANION = "/confirm"
CONFIRMS = "confirms"
"""The attribute by which a study says which search's fresh trainings it holds."""


@dataclass(frozen=True, kw_only=True)
class Confirmed:
    """A confirmation that came to its end."""

    time: str
    """UTC, ISO 8601."""

    trials: int
    """Finished trials that the search had then."""

    objective: str
    """What was compared."""

    sealed: int = 0
    """How many signers are sealed for a test."""

    found: Confirmation


def companion_name(study: str) -> str:
    """The study that holds the trainings of a confirmation. No search can have this name."""
    return f"{study}{_COMPANION}"


def is_companion(study: str) -> bool:
    """Whether a study's name says that it holds such trainings."""
    return study.endswith(_COMPANION)


def fresh_trials(study: optuna.Study, storage: optuna.storages.BaseStorage) -> list[FrozenTrial]:
    """The trainings of a study's confirmation; none if it was not confirmed."""
    import optuna

    name = companion_name(study.study_name)
    if name not in optuna.get_all_study_names(storage):
        return []
    return optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)


def store_confirmed(study: optuna.Study, found: Confirmation, *, trials: int, objective: str, sealed: int) -> Confirmed:
    """Keeps it, in the place of an earlier one. One that recommends nothing is not kept."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    confirmed = Confirmed(time=now, trials=trials, objective=objective, sealed=sealed, found=found)
    if found.recommended is None:
        return confirmed
    study.set_user_attr(_ATTRIBUTE, json.dumps(dataclasses.asdict(confirmed), ensure_ascii=False))
    return confirmed


def stored_confirmed(study: optuna.Study) -> Confirmed | None:
    """The last confirmation of a study; None if there was none that this version can read."""
    if _ATTRIBUTE not in study.user_attrs:
        return None
    stored: dict[str, Any] = json.loads(study.user_attrs[_ATTRIBUTE])
    try:
        return Confirmed(**known_fields(Confirmed, {**stored, "found": confirmation_of(stored["found"])}))
    except (KeyError, TypeError):  # another version wrote it, which knew other things
        return None
