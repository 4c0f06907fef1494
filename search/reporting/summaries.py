"""The best trial, the Pareto front, the baseline and the trial that the model believes in as lines of text."""

from __future__ import annotations

from collections.abc import Sequence

from data_utils.wording import align, counted, width
from search.events import TrialSummary
from search.study.recommendation import Recommendation
from search.wording import format_params, format_value, format_values, labeled, or_dash, strong, trial_name, wrap


def answer_lines(
    best: TrialSummary | None,
    baseline: TrialSummary | None,
    front: Sequence[TrialSummary] = (),
    believed: Recommendation | None = None,
    room: int | None = None,
) -> list[str]:
    """What a search has found. First, in bold, the setting to use: the one that the model believes in, else the best."""
    if best is None:
        return ["best     none: no trial is complete yet", *baseline_lines(best, baseline, room)]
    found = best_lines(best, front, room)
    belief = believed_lines(believed, best, room)
    if believed is not None and believed.trial != best.trial:
        return [*belief, *found, *baseline_lines(best, baseline, room)]
    return [*(found if front else strong(found)), *baseline_lines(best, baseline, room), *belief]


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


def believed_lines(believed: Recommendation | None, best: TrialSummary, room: int | None = None) -> list[str]:
    """The trial that the model believes in; no lines without a model."""
    if believed is None:
        return []
    low, high = format_value(believed.low), format_value(believed.high)
    number = f"mean {next(iter(best.values), 'val_loss')} {format_value(believed.mean)} (95% interval {low} to {high})"
    number += f"; one training has noise of {or_dash(believed.noise)} (sd)"
    note = f"lowest mean over seeds, by a Gaussian process over {counted(believed.complete, 'complete trial')}"
    if believed.trial == best.trial:
        return [*labeled("believed", f"{trial_name(best.trial)} too: {number}", room), *labeled("", note, room)]
    if believed.better is not None:
        note += f"; truly better than {trial_name(believed.best)} with a probability of {believed.better:.0%}"
    setting = [
        *labeled("believed", f"{trial_name(believed.trial)}: {number}", room),
        *labeled("", format_params(believed.params), room),
    ]
    return [*strong(setting), *labeled("", note, room)]


def summary_lines(label: str, trial: TrialSummary, room: int | None = None) -> list[str]:
    """A trial and its parameters."""
    values = format_values(trial.values or {"val_loss": trial.value})
    text = f"trial {trial.trial}: {values}, top1 {trial.val_top1:.4f} at epoch {trial.epoch}"
    return [*labeled(label, text, room), *labeled("", format_params(trial.params), room)]
