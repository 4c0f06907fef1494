"""Which of several settings to prefer by what is believed of their true values. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from search.study.belief import Belief
    from search.study.confirmed import SearchedSetting


TIE = 0.35
"""A setting that is better than the leader with at least this probability is tied with it. At 0.5 both are equally good."""


_Setting = TypeVar("_Setting", bound="SearchedSetting")


class Choice(NamedTuple):
    """The preferred setting, and what it was preferred to."""

    best: int
    """The trial to use: of those that are tied, the one with the fewest parameters, and of equals the one that is believed to
    have the lowest true value."""

    tied: tuple[int, ...]
    """The leader (that with the lowest estimate) and those tied with it, the lowest first."""


def choose(settings: Sequence[SearchedSetting], belief: Belief) -> Choice:
    """The setting to prefer among at least one."""
    ranked = sorted(settings, key=lambda one: (belief.mean_of(one.trial), one.trial))
    leader = ranked[0]
    tied = [one for one in ranked if one is leader or belief.probability_better(one.trial, leader.trial) >= TIE]
    return Choice(fewest(tied)[0].trial, tuple(one.trial for one in tied))


def fewest(tied: Sequence[_Setting]) -> list[_Setting]:
    """Those with the fewest parameters, in the same order; all, if any number is unknown."""
    counts = [one.parameters for one in tied if one.parameters is not None]
    return [one for one in tied if len(counts) < len(tied) or one.parameters == min(counts)]
