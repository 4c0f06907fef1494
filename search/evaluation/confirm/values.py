"""Values of the trainings with fresh seeds. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping

Values = Mapping[int, Mapping[int, float | None]]
"""By trial and seed number (from 1) the value of a training, a finite number; None for a training that failed."""


RISK = 0.1
"""The chance of a better candidate at which a confirmation stops training candidates; see `allocation.py`."""


def known_values(by_seed: Mapping[int, float | None]) -> list[float]:
    """The values of the trainings that did not fail, in order of their seeds."""
    return [value for _, value in sorted(by_seed.items()) if value is not None]


def has_failed(by_seed: Mapping[int, float | None]) -> bool:
    """Whether one of the trainings failed."""
    return None in by_seed.values()


def num_measuring(seeds: int) -> int:
    """How many of a setting's seeds measure, and do not choose: half of them, and two if there are as many."""
    return max(min(2, seeds), (seeds + 1) // 2)
