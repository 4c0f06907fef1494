"""Reads trials from Optuna's tables with six plain statements, however many trials there are.

Optuna builds an object for every stored value, 400,000 for 20,000 trials of 20 epochs, which takes five times as long. The
tables are those of `optuna.storages._rdb.models` in the version `tables.SCHEMA_VERSION`. A test compares everything that is
read here with what Optuna reads.
"""

from __future__ import annotations

import contextlib
import datetime
import gc
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.trial import FrozenTrial, TrialState

Query = Callable[[str], Sequence[Sequence[Any]]]
"""Runs a statement without parameters and returns its rows."""

_NOT_FINITE = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}


def read_trials(query: Query, condition: str, *, reported_of: str = "") -> list[FrozenTrial]:
    """The trials that match a condition, by number.

    Args:
        condition: in SQL, on columns of `trials`, without parameters. It holds no text from outside.
        reported_of: a further condition on the trials whose reported values are read; empty: all of them.
    """
    with _without_collector():
        return _read_trials(query, condition, reported_of)


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Pauses the search for reference cycles, which takes a third of the time while a million objects without any are made."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _read_trials(query: Query, condition: str, reported_of: str) -> list[FrozenTrial]:

    def rows(names: str, table: str, order: str = "", *, of: str = condition) -> Sequence[Sequence[Any]]:
        """Rows of these trials; the first column is the trial's id."""
        return query(f"SELECT trial_id, {names} FROM {table} JOIN trials USING (trial_id) WHERE {of} {order}")

    trials = query(
        f"SELECT trial_id, number, state, datetime_start, datetime_complete FROM trials WHERE {condition} ORDER BY number"
    )
    if not trials:
        return []
    if strange := [number for _, number, *_ in trials if not isinstance(number, int)]:
        raise ValueError(f"{strange[0]!r} is not the number of a trial")
    values = _numbers(rows("objective, value, value_type", "trial_values", "ORDER BY objective"))
    params, shapes = _params(rows("param_name, param_value, distribution_json", "trial_params", "ORDER BY param_id"))
    user = _attributes(rows("trial_user_attributes.key, value_json", "trial_user_attributes"))
    system = _attributes(rows("trial_system_attributes.key, value_json", "trial_system_attributes"))
    of = f"{condition} AND {reported_of}" if reported_of else condition
    reported = _numbers(rows("step, intermediate_value, intermediate_value_type", "trial_intermediate_values", of=of))
    return [
        FrozenTrial(
            number=number,
            state=TrialState[state],
            value=None,
            values=list(values[trial].values()) or None,
            datetime_start=_local(start),
            datetime_complete=_local(complete),
            params=params[trial],
            distributions=shapes[trial],
            user_attrs=user[trial],
            system_attrs=system[trial],
            intermediate_values=reported[trial],
            trial_id=trial,
        )
        for trial, number, state, start, complete in trials
    ]


def count_trials(query: Query, study: int, state: tuple[TrialState, ...] | TrialState | None) -> int:
    """The number of a study's trials in these states; None: in any. Optuna reads all trials to count them."""
    wanted = TrialState if state is None else (state,) if isinstance(state, TrialState) else state
    found = query(f"SELECT state, count(*) FROM trials WHERE study_id = {int(study)} GROUP BY state")
    counts = {str(name): int(count) for name, count in found}
    return sum(counts.get(one.name, 0) for one in wanted)


def _numbers(rows: Sequence[Sequence[Any]]) -> dict[int, dict[int, float]]:
    """Numbers by trial and index (objective or step). Those that are not finite are stored as words."""
    found: dict[int, dict[int, float]] = defaultdict(dict)
    for trial, index, number, kind in rows:
        if kind == "FINITE" and not isinstance(number, int | float):
            raise ValueError(f"{number!r} is not a number")
        found[trial][index] = number if kind == "FINITE" else _NOT_FINITE[kind]
    return found


def _attributes(rows: Sequence[Sequence[Any]]) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    values = json.loads(f"[{','.join(text for _, _, text in rows)}]")  # parsing all at once takes half the time
    for (trial, key, _), value in zip(rows, values, strict=True):
        found[trial][key] = value
    return found


def _params(rows: Sequence[Sequence[Any]]) -> tuple[dict[int, dict[str, Any]], dict[int, dict[str, BaseDistribution]]]:
    """Parameters by trial, in the order in which they were suggested, and their distributions."""
    params: dict[int, dict[str, Any]] = defaultdict(dict)
    shapes: dict[int, dict[str, BaseDistribution]] = defaultdict(dict)
    known: dict[str, BaseDistribution] = {}  # thousands of trials share a few distributions
    for trial, name, value, text in rows:
        if text not in known:
            known[text] = json_to_distribution(text)
        shapes[trial][name] = known[text]
        params[trial][name] = known[text].to_external_repr(value)
    return params, shapes


def _local(stored: str | datetime.datetime | None) -> datetime.datetime | None:
    """A stored UTC time as in Optuna's API: local time without a zone. The inverse of `tables.to_utc`."""
    if stored is None:
        return None
    time = datetime.datetime.fromisoformat(stored) if isinstance(stored, str) else stored
    return time.replace(tzinfo=datetime.UTC).astimezone().replace(tzinfo=None)
