"""What a confirmation trains and what it finds, as plain values that can be stored. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A setting that is trained again."""

    trial: int
    """Its number in the search; `BASELINE_TRIAL` for the baseline."""

    params: Mapping[str, Any]
    """Its value of every dimension that applies, by the dimension's name."""

    searched: float | None
    """Its value in the search; None for a baseline that has none."""

    parameters: int | None
    """How many numbers its model learns; None if unknown."""

    distance: float
    """From the baseline, Euclidean in the unit cube of `candidates.embedding`."""

    reason: str = ""
    """Why a training of it failed; empty if none did."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is known of one setting."""

    trial: int
    """Its number in the search; `BASELINE_TRIAL` for the baseline."""

    params: dict[str, Any]
    """As in `Candidate`."""

    searched: float | None
    """Its value in the search."""

    parameters: int | None
    """How many numbers its model learns."""

    distance: float
    """From the baseline, in the unit cube."""

    values: tuple[float | None, ...]
    """What it gave with seed 1, 2, ...; None where it failed or was not trained."""

    failed: tuple[int, ...]
    """The seeds whose training failed."""

    reason: str
    """Why one of them did; empty if none failed."""

    dropped_after: int | None
    """The round after which it left the race; None if it stayed, or was trained with every seed by a smaller race."""

    mean: float | None
    """Of its values; None without any."""

    sd: float | None
    """Standard deviation of its values; None with fewer than two."""

    low: float | None
    """Lower end of the mean's 95 % interval, from its own spread; None with fewer than two values."""

    high: float | None
    """Upper end of the same interval."""

    estimate: float | None
    """The mean once the search's neighbouring trials are heard (`estimate.py`); None where nothing was estimated."""

    change: float | None
    """Mean difference to the baseline over the seeds of both: below 0 is better; None without a common seed."""

    change_low: float | None
    """Lower end of the change's 95 % interval (paired); None with fewer than two common seeds, and for the baseline."""

    change_high: float | None
    """Upper end of the same interval."""

    better: float | None
    """Probability of being better than the baseline (`probability_better`); None where the interval is."""

    optimism: float | None
    """Mean minus the search's value: how much luck the search's value held."""


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """What a confirmation found. Only plain values: `dataclasses.asdict` makes JSON of it, `confirmation_of` reads it back."""

    rows: tuple[Row, ...]
    """The candidates by mean, then the baseline."""

    better_than: tuple[tuple[float | None, ...], ...]
    """By two rows' places the probability that the first is better; None for itself and with fewer than two common seeds."""

    recommended: int | None
    """The trial to use; None if none has trained with every seed."""

    leader: int | None
    """The one with the lowest estimate (mean, where nothing was estimated) of all that trained with every seed."""

    tied: tuple[int, ...]
    """The leader, and those that cannot be told apart from it, the lowest first."""

    picked_from: int
    """How many settings, itself among them, the recommended one's seeds alone cannot tell it from; 0 if none is recommended."""

    low: float | None
    """Lower end of the 95 % interval of the recommended one's mean. Wider than its row's where it was picked from several that
    its seeds cannot tell it from, the luckiest of which looks better than it is: each of n gets 5 % / n of the error
    (Bonferroni)."""

    high: float | None
    """Upper end of the same interval."""

    change_low: float | None
    """Lower end of the 95 % interval of its difference to the baseline, wider in the same way; None if it is the baseline."""

    change_high: float | None
    """Upper end of the same interval."""

    why: str
    """Why this one is recommended, in a sentence without a full stop."""

    verdict: str
    """How the recommended one compares with the baseline, in the same form."""

    noise: float | None
    """Standard deviation between the seeds of a setting, pooled over settings; None if none has two values."""

    seeds: int
    """With how many seeds a setting trains that stays in the race."""

    trainings: int
    """How many trainings were made, the failed ones too."""

    saved: int
    """How many were not needed because their candidate had clearly lost."""


def confirmation_of(stored: Mapping[str, Any]) -> Confirmation:
    """The confirmation that `dataclasses.asdict` and JSON made of one."""
    lists = ("values", "failed")
    rows = tuple(Row(**known_fields(Row, row | {name: tuple(row[name]) for name in lists})) for row in stored["rows"])
    better_than = tuple(tuple(line) for line in stored["better_than"])
    whole = {**stored, "rows": rows, "better_than": better_than, "tied": tuple(stored["tied"])}
    return Confirmation(**known_fields(Confirmation, whole))


def known_fields(kind: type, stored: Mapping[str, Any]) -> dict[str, Any]:
    """What a dataclass has a field for: a later version may have kept more."""
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in stored.items() if name in names}


_ATTRIBUTE = "confirmed"


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
