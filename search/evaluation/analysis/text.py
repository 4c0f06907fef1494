"""An analysis as lines of text, and as plain values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from data_utils.wording import align, format_duration
from search.evaluation.analysis.analyze import Analysis
from search.evaluation.analysis.cost import Cost, Infeasible
from search.evaluation.analysis.grid import GridComparison
from search.evaluation.analysis.isolation import Bin
from search.wording import format_number, format_params, format_value


def analysis_json(found: Analysis) -> dict[str, Any]:
    """The analysis as plain values, with None for numbers that are not finite."""
    plain: dict[str, Any] = _finite(dataclasses.asdict(found))
    return plain


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def analysis_lines(found: Analysis) -> list[str]:
    """The analysis as text."""
    lines = [f"study    {found.study}: {found.complete:,} complete trials, analyzed by {found.objective}"]
    lines += [*_believed_lines(found), *_edge_lines(found)]
    lines += [] if found.grid is None else ["", *_grid_lines(found.grid)]
    lines += ["", "importance of the parameters (PED-ANOVA; 90% of bootstrap resamples lie between low and high)"]
    lines += _importance_lines(found)
    for name, bins in found.isolation.items():
        lines += ["", f"best values by {name}, whatever the other parameters were", *_isolation_lines(bins)]
        lines.append(found.readings[name].text)
    return [*lines, "", *_noise_lines(found), *_infeasible_lines(found.infeasible), "", *_spending_lines(found)]


def _believed_lines(found: Analysis) -> list[str]:
    believed = found.believed
    if believed is None:
        return []
    low, high = format_value(believed.low), format_value(believed.high)
    return [
        f"believed trial {believed.trial}: mean {found.objective} over seeds {format_value(believed.mean)} "
        f"(95% interval {low} to {high})"
    ]


def _edge_lines(found: Analysis) -> list[str]:
    if found.chosen is None:
        return ["edge     unknown: no trial is complete"]
    lines = []
    for advice in found.edges:
        value = f"{advice.name} {format_number(advice.value)} of trial {found.chosen}"
        lines.append(f"edge     {value} is at the {advice.edge} end of its range")
        lines.append(f"         {advice.old.text()}; try --set '{advice.text}' --allow-wider")
    return lines or [f"edge     trial {found.chosen} lies inside the space"]


def _grid_lines(grid: GridComparison) -> list[str]:
    """A line per setting and reading, with the verdict."""
    rows = []
    for reading in grid.readings:
        for row in reading.rows:
            mean, change = (
                _pm(row.mean, row.low, row.high, "{:.4f}"),
                _pm(row.change, row.change_low, row.change_high, "{:+.4f}"),
            )
            rows.append([reading.name, format_params(row.params), mean, change])
    paired = "paired by seed" if grid.is_paired else "of settings with different seeds (Welch)"
    note = f"differences {paired}; their 95% intervals are widened for {grid.comparisons} comparisons (Bonferroni)"
    lines = [
        f"settings of the grid, {grid.repeats} repeats each",
        *align([["", "", "mean", "difference"], *rows], right=(2, 3)),
    ]
    return [*lines, note, f"verdict: {grid.verdict}", *([f"also: {grid.others}"] if grid.others else [])]


def _pm(value: float | None, low: float | None, high: float | None, form: str) -> str:
    """A number with its interval: `1.4300 ±0.1520`."""
    if value is None:
        return ""
    return form.format(value) + ("" if low is None or high is None else f" ±{(high - low) / 2:.4f}")


def _importance_lines(found: Analysis) -> list[str]:
    if found.importance is None:
        return [f"unknown: {found.no_importance}"]
    rows = [[one.name, *(f"{share:.2f}" for share in (one.importance, one.low, one.high))] for one in found.importance.params]
    table = align([["", "share", "low", "high"], *rows], right=(1, 2, 3))
    return [*table, *(f"{name}: not judged, {why}" for name, why in found.importance.not_judged.items())]


def _isolation_lines(bins: Sequence[Bin]) -> list[str]:
    rows = [
        [one.text, str(one.count), _text(one.best), "-" if one.trial is None else str(one.trial), _text(one.confident)]
        for one in bins
    ]
    head = ["", "trials", "best", "trial", "confident"]
    note = "confident: 90% of bootstrap resamples reach this value or better"
    return [*align([head, *rows], right=(1, 2, 3, 4)), note]


def _text(value: float | None) -> str:
    return "-" if value is None else format_value(value)


def _noise_lines(found: Analysis) -> list[str]:
    if found.noise is None or found.luck is None:
        command = f"islr-search confirm {found.study}"
        return [f"noise    unknown: nothing was trained with more than one seed; `{command}` does that"]
    return [
        f"noise    {found.noise.sd:.4f} between seeds (95% interval {found.noise.low:.4f} to {found.noise.high:.4f})",
        f"luck     the best of {found.complete:,} equal trials would look {found.luck:.4f} better than it is",
    ]


def _infeasible_lines(found: Infeasible) -> list[str]:
    lines = [f"failed   {found.failed:,} of {found.finished:,} trials ({found.share:.0%})"]
    lines += [f"         {count:,} times: {reason}" for reason, count in found.reasons]
    return lines + [f"         {place}" for place in found.places]


def _spending_lines(found: Analysis) -> list[str]:
    rows = [_cost_cells(state, cost) for state, cost in found.ledger.by_state.items() if cost.trials]
    rows.append(_cost_cells("all", found.ledger.total))
    rows.append(_cost_cells("saved by pruning, at most", found.ledger.saved))
    if found.confirming is not None:
        rows.append(_cost_cells("confirmation", found.confirming.total))
    lines = align([["cost", "trials", "epochs", "CPU", "GPU"], *rows], right=(1, 2, 3, 4))
    if found.ledger.deaths:
        lines.append(f"workers died {found.ledger.deaths:,} times, in {found.ledger.struck:,} trials")
    return lines


def _cost_cells(name: str, cost: Cost) -> list[str]:
    cpu, gpu = format_duration(cost.cpu_s + cost.other_s), format_duration(cost.gpu_s)
    return [name, f"{cost.trials:,}", f"{cost.epochs:,.0f}", cpu, gpu]
