"""What a confirmation trains and finds, as plain values that can be stored. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from data_utils.wording import caution_of

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True, kw_only=True)
class SearchedSetting:
    """A setting and what the search says of it."""

    trial: int
    """Its number in the search; `BASELINE_TRIAL` for the baseline."""

    params: Mapping[str, Any]
    """Its value of every dimension that applies, by the dimension's name."""

    searched: float | None
    """Its value in the search; None for a baseline that has none."""

    parameters: int | None
    """Number of trainable parameters of its model; None if unknown."""


@dataclass(frozen=True, kw_only=True)
class Candidate(SearchedSetting):
    """A setting that is trained again."""

    reason: str = ""
    """Why one of its trainings failed; empty if none did."""


@dataclass(frozen=True, kw_only=True)
class CandidateResult(SearchedSetting):
    """The fresh values of one candidate, and what follows from them."""

    values: tuple[float | None, ...]
    """Its values with seeds 1, 2, ...; None where a training failed or is missing."""

    measured: bool = True
    """Whether it was measured: its mean, intervals and change are those of the seeds that had no part in the choice. Otherwise
    they are those of the seeds by which the candidates were compared, and a low mean is partly luck."""

    failed: tuple[int, ...]
    """The seeds whose training failed."""

    reason: str
    """Why one of them failed; empty if none did."""

    dropped_after: int | None
    """The round after which an earlier version eliminated it; None otherwise."""

    mean: float | None
    """Mean of its values, see `measured`; None without any."""

    sd: float | None
    """Standard deviation of the same values; None with fewer than two."""

    low: float | None
    """Lower end of the mean's 95% interval, from its own standard deviation; None with fewer than two values, and if
    it was not measured."""

    high: float | None
    """Upper end of the same interval."""

    estimate: float | None
    """Its true value, estimated from all its values and from nearby trials of the search (`belief.py`); None where nothing was
    estimated."""

    change: float | None
    """Mean difference to the baseline over the seeds of both (those that measure, if it was measured), negative if better; None
    without a common seed."""

    change_low: float | None
    """Lower end of the change's 95% interval (paired); None with fewer than two common seeds, and for the baseline."""

    change_high: float | None
    """Upper end of the same interval."""

    better: float | None
    """Probability of being better than the baseline (`probability_better`); None where the interval is."""

    optimism: float | None
    """Mean minus the search's value: how much of the search's value was luck."""


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """The result of a confirmation. Only plain values: `dataclasses.asdict` converts it to JSON, `from_plain` reads it back."""

    rows: tuple[CandidateResult, ...]
    """The candidates in order of their means, then the baseline."""

    better_than: tuple[tuple[float | None, ...], ...]
    """`[i][j]`: the probability that row i is better than row j, by the estimates; None for i = j and without an estimate."""

    recommended: int | None
    """The trial to use; None if none was measured."""

    leader: int | None
    """The trial with the lowest estimate."""

    tied: tuple[int, ...]
    """The leader and the trials that are statistically tied with it, the lowest first."""

    picked_from: int
    """From how many settings the recommended one was chosen by the values of its mean: 1, more in earlier versions, and 0 if
    none is recommended."""

    low: float | None
    """Lower end of the 95% interval of the recommended setting's mean. It is wider than its row's interval if the setting was
    chosen from n > 1, because the luckiest of them looks better than it is: each gets 5% / n of the error (Bonferroni)."""

    high: float | None
    """Upper end of the same interval."""

    change_low: float | None
    """Lower end of the 95% interval of its difference to the baseline, widened likewise; None if it is the baseline."""

    change_high: float | None
    """Upper end of the same interval."""

    rival: int | None = None
    """The best other setting, where the baseline is recommended; its row has its difference to the baseline."""

    risk: float | None = None
    """The chance that another setting is better than the recommended one by more than `margin`; None if it is unknown."""

    margin: float | None = None
    """A small difference: a share of the noise between seeds."""

    why: str
    """The reason for the recommendation, as a sentence without a full stop."""

    verdict: str
    """How the recommended setting compares with the baseline, in the same form."""

    noise: float | None
    """Standard deviation between the seeds of a setting, pooled over settings; None if no setting has two values."""

    seeds: int
    """The most seeds that a candidate can have."""

    choosing: int = 0
    """By the values of how many of them, the first ones, candidates were chosen. The others measure."""

    trainings: int
    """Number of trainings made, including failed ones."""

    saved: int
    """Number of trainings that were not needed: with every seed for every candidate there would have been so many more."""


def num_values(row: CandidateResult, found: Confirmation) -> int:
    """How many values the mean of a setting is the mean of."""
    values = row.values[found.choosing :] if row.measured else row.values
    return sum(value is not None for value in values)


@dataclass(frozen=True, kw_only=True)
class SignerSpread:
    """How far the value of the recommended setting varies between seeds and between validation signers."""

    signers: int
    """Number of validation signers."""

    between_seeds: float | None
    """Standard deviation of the value between seeds, on the same signers; None with fewer than two seeds."""

    between_signers: float | None
    """Standard deviation between signers, without the share of the seeds; None where it cannot be known: with a single signer,
    or where the objective is not known for each signer."""

    error: float | None
    """Standard error of the value over signers; None likewise."""

    change_error: float | None
    """Standard error of the change to the baseline over signers; None likewise, and for the baseline."""


@dataclass(frozen=True, kw_only=True)
class Confirmed:
    """A finished confirmation, as it is stored with its study."""

    time: str
    """UTC, ISO 8601."""

    trials: int
    """Finished trials of the search at that time."""

    objective: str
    """Name of the objective that was compared."""

    sealed: int = 0
    """Number of signers with clips in the sealed test part."""

    split: str = "signers"
    """What the study holds out: `signers` or `clips`."""

    signers: SignerSpread | None = None
    """How much the result depends on the validation signers; None if nothing was measured, or by an earlier version."""

    found: Confirmation

    @property
    def caution(self) -> str:
        """What limits the result; empty for a split by signer."""
        return caution_of(self.split)


_Plain = TypeVar("_Plain")


def from_plain(kind: type[_Plain], stored: Mapping[str, Any]) -> _Plain:
    """A dataclass from its JSON form; fields that a later version has added are ignored.

    Raises:
        pydantic.ValidationError: it does not fit, as when another version wrote it.
    """
    from pydantic import TypeAdapter

    return TypeAdapter(kind).validate_python(stored)


_ATTRIBUTE = "confirmed"


def store_confirmed(study: optuna.Study, confirmed: Confirmed) -> None:
    """Stores a confirmation with its study, replacing an earlier one. One that recommends nothing is not stored."""
    if confirmed.found.recommended is not None:
        study.set_user_attr(_ATTRIBUTE, json.dumps(dataclasses.asdict(confirmed), ensure_ascii=False))


def load_confirmed(study: optuna.Study) -> Confirmed | None:
    """The last confirmation of a study; None if there is none that this version can read."""
    if _ATTRIBUTE not in study.user_attrs:
        return None
    try:
        return from_plain(Confirmed, json.loads(study.user_attrs[_ATTRIBUTE]))
    except ValueError:  # pydantic's: another version wrote it
        return None
