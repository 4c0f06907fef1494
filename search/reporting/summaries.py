"""The best and the baseline as lines of text."""

from __future__ import annotations

from collections.abc import Sequence

from data_utils.wording import align, width
from search.events import TrialSummary
from search.wording import format_params, format_value, format_values, labeled, wrap


def best_lines(best: TrialSummary, front: Sequence[TrialSummary] = (), room: int | None = None) -> list[str]:
    """The best trial; with several objectives all that no other trial beats in everything."""
    if not front:
        return summary_lines("best", best, room)
    lines = [f"front    {len(front)} {'trial' if len(front) == 1 else 'trials'} that no other beats in everything"]
    names = list(best.values)
    rows = [[str(t.trial), *(format_value(t.values[n]) for n in names), f"{t.val_top1:.4f}"] for t in front]
    head, *table = align([["trial", *names, "top1"], *rows], right=range(len(names) + 2))
    indent = " " * (9 + width(head) + 2)
    for row, trial in zip(table, front, strict=True):
        lines += wrap(f"         {row}  ", format_params(trial.params), indent, room)
    return [lines[0], f"         {head}", *lines[1:]]


def baseline_lines(best: TrialSummary | None, baseline: TrialSummary | None, room: int | None = None) -> list[str]:
    """The baseline beside the best."""
    if baseline is None:
        return ["baseline none: it has not trained to its end"]
    if best is not None and best.trial == baseline.trial and len(baseline.values) < 2:
        return ["         this is the baseline: nothing has beaten it"]
    return summary_lines("baseline", baseline, room)


def summary_lines(label: str, trial: TrialSummary, room: int | None = None) -> list[str]:
    """A trial and its parameters."""
    values = format_values(trial.values or {"val_loss": trial.value})
    told = f"trial {trial.trial}: {values}, top1 {trial.val_top1:.4f} at epoch {trial.epoch}"
    return [*labeled(label, told, room), *labeled("", format_params(trial.params), room)]
