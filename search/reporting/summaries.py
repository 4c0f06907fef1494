"""The best trial, the Pareto front and the baseline as lines of text."""

from __future__ import annotations

from collections.abc import Sequence

from data_utils.wording import align, counted, width
from search.events import TrialSummary
from search.wording import format_params, format_value, format_values, labeled, wrap


def best_lines(best: TrialSummary, front: Sequence[TrialSummary] = (), room: int | None = None) -> list[str]:
    """The best trial, or the Pareto front of several objectives."""
    if not front:
        return summary_lines("best", best, room)
    names = list(best.values)
    rows = [[str(t.trial), *(format_value(t.values[n]) for n in names), f"{t.val_top1:.4f}"] for t in front]
    head, *table = align([["trial", *names, "top1"], *rows], right=range(len(names) + 2))
    lines = [f"front    {counted(len(front), 'trial')} on the Pareto front", f"         {head}"]
    indent = " " * (9 + width(head) + 2)
    for row, trial in zip(table, front, strict=True):
        lines += wrap(f"         {row}  ", format_params(trial.params), indent, room)
    return lines


def baseline_lines(best: TrialSummary | None, baseline: TrialSummary | None, room: int | None = None) -> list[str]:
    """The baseline, for comparison with the best."""
    if baseline is None:
        return ["baseline none: it has not trained to its end"]
    if best is not None and best.trial == baseline.trial and len(baseline.values) < 2:
        return ["         this is the baseline: nothing has beaten it"]
    return summary_lines("baseline", baseline, room)


def summary_lines(label: str, trial: TrialSummary, room: int | None = None) -> list[str]:
    """A trial and its parameters."""
    values = format_values(trial.values or {"val_loss": trial.value})
    text = f"trial {trial.trial}: {values}, top1 {trial.val_top1:.4f} at epoch {trial.epoch}"
    return [*labeled(label, text, room), *labeled("", format_params(trial.params), room)]
