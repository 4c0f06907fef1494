"""A confirmation as lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from data_utils.wording import align, counted, format_duration, width
from search import BASELINE_TRIAL
from search.evaluation.confirm.values import RISK
from search.events import ConfirmFinished
from search.study.confirmed import CandidateResult, Confirmation, Confirmed, num_values
from search.wording import format_params, labeled, or_dash, strong, study_args, trial_name

FEW_SIGNERS = 5
"""Below it a standard error over signers may be off by half, and is called a guess."""


def confirm_footer(event: ConfirmFinished, storage: str, runs: str, room: int = 80) -> list[str]:
    """The result of a confirmation, and the next commands, which stay on one line, to be copied."""
    found = event.confirmed.found
    lines = ["", *confirmed_answer(event.confirmed, room), "", *confirmed_table(event.confirmed, room)]
    lines += pairwise_lines(found, room)
    took = f"{found.trainings} trainings with fresh seeds; this run took {format_duration(event.seconds)}"
    lines += labeled("cost", took, room)
    if found.recommended is not None:
        commands = [f"export {study_args(event.study, storage)} --output best.yaml"]
        if event.confirmed.sealed:
            commands.insert(0, f"test {study_args(event.study, storage, runs)}")
        lines += [f"{'next' if n == 0 else '':8} islr-search {command}" for n, command in enumerate(commands)]
    return lines


def confirmed_answer(confirmed: Confirmed, room: int = 80) -> list[str]:
    """Which setting to use, in bold, and how sure that is."""
    found = confirmed.found
    best = next((row for row in found.rows if row.trial == found.recommended), None)
    if best is None:
        return strong(labeled("use", f"none is recommended: {found.why}", room))
    interval = ""
    if found.low is not None and found.high is not None:
        interval = f" (95% interval {found.low:.4f} to {found.high:.4f}{_widened(found)})"
    seeds = counted(num_values(best, found), "fresh seed")
    lines = labeled("use", f"{trial_name(best.trial)}: {confirmed.objective} {or_dash(best.mean)} over {seeds}{interval}", room)
    lines += labeled("", format_params(best.params), room)
    lines = strong([*lines, *labeled("verdict", f"{found.verdict}{_change_text(best, found)}", room)])
    lines += labeled("because", f"{found.why}{_risk_text(found)}", room)
    for text in _optimism(found):
        lines += labeled("luck", text, room)
    lines += labeled("noise", f"{or_dash(found.noise)} between seeds on the same validation {confirmed.split}", room)
    return lines + labeled("people" if confirmed.caution else "signers", signers_text(confirmed), room)


def confirmed_table(confirmed: Confirmed, room: int = 80) -> list[str]:
    """The candidates as a table, which leaves columns out where there is no room; and those that failed or were left behind."""
    found = confirmed.found
    head = ["trial", "searched", "estimate", "seeds", "mean", "95%", "change", "95%", "better"]
    rows = [head, *(_cells(row, found) for row in found.rows)]
    lines = align(rows, right=range(len(head)))
    if max(map(width, lines)) > room:
        lines = align([[row[0], *row[2:5], *row[6:]] for row in rows], right=range(len(head)))
    lines += labeled("", f"{confirmed.objective}, lower is better. {_legend(found)}", room)
    return lines + [line for text in _eliminations(found) for line in labeled("out", text, room)]


def signers_text(confirmed: Confirmed) -> str:
    """How far the result would move with other validation signers, which the intervals over seeds do not say."""
    if confirmed.caution:
        return confirmed.caution
    spread, silent = confirmed.signers, "the intervals, over seeds alone, say nothing about that"
    if spread is None:
        return f"other validation signers would move the values further than other seeds do; {silent}"
    if spread.signers == 1:
        return f"with one validation signer it cannot be known how far other signers would move the values; {silent}"
    if spread.error is None:
        return f"how far other validation signers would move the values is not known for {confirmed.objective}; {silent}"
    guess = f", a guess from {spread.signers} signers" if spread.signers < FEW_SIGNERS else ""
    moves = f"the value by about ±{spread.error:.4f}"
    if spread.change_error is not None:
        moves += f" and the change by ±{spread.change_error:.4f}"
    return (
        f"standard deviation {or_dash(spread.between_signers)} between {spread.signers} validation signers; "
        f"others would move {moves} (standard errors{guess}); {silent}"
    )


def pairwise_lines(found: Confirmation, room: int = 80) -> list[str]:
    """The matrix of the probabilities that one setting is better than another."""
    names = [_name(row) for row in found.rows]
    cells = [[name, *map(or_dash, line)] for name, line in zip(names, found.better_than, strict=True)]
    table = align([["", *names], *cells], right=range(len(names) + 1))
    text = "probability that the setting of the row is better than that of the column, by the estimates"
    lines = labeled("pairs", text, room)
    return lines + [f"         {line}" for line in table]


def _legend(found: Confirmation) -> str:
    legend = "change: mean difference to the baseline; better: probability of being better than it"
    if any(row.estimate is not None for row in found.rows):
        legend = f"estimate: the true value by all trainings and nearby trials of the search; {legend}"
    if any(row.mean is not None and not row.measured for row in found.rows):
        legend += "; in (): of the seeds by which candidates were compared; the other seeds had no part in the choice"
    return legend


def _name(row: CandidateResult) -> str:
    return "base" if row.trial == BASELINE_TRIAL else str(row.trial)


def _cells(row: CandidateResult, found: Confirmation) -> list[str]:
    name = ("*" if row.trial == found.recommended else "") + _name(row)
    count = num_values(row, found)
    cells = [name, or_dash(row.searched), or_dash(row.estimate), str(count) if count else "-"]
    if not row.measured and row.mean is not None:
        return [*cells, f"({row.mean:.4f})", "", "", "", ""]
    cells += [or_dash(row.mean), _half_width(row.low, row.high)]
    if row.trial == BASELINE_TRIAL:
        return [*cells, "", "", ""]
    change = "-" if row.change is None else f"{row.change:+.4f}"
    return [*cells, change, _half_width(row.change_low, row.change_high), or_dash(row.better)]


def _half_width(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"±{(high - low) / 2:.4f}"


def _widened(found: Confirmation) -> str:
    return f", widened because it was chosen from {found.picked_from} candidates" if found.picked_from > 1 else ""


def _risk_text(found: Confirmation) -> str:
    if found.risk is None or found.margin is None:
        return ""
    chance = f"{found.risk:.0%}" if found.risk >= 0.005 else "under 1%"
    more = " (more `--seeds` lower it)" if found.risk > RISK else ""
    return f"; the chance that another one is better by more than {found.margin:.4f} is {chance}{more}"


def _eliminations(found: Confirmation) -> Iterator[str]:
    """Which candidates failed or were eliminated."""
    for row in found.rows:
        if row.failed:
            reason = f": {row.reason}" if row.reason else ""
            yield f"{trial_name(row.trial)} failed with seed {', '.join(map(str, row.failed))}{reason}"
    for row in found.rows:
        if row.dropped_after is not None and not row.failed:
            yield f"trial {row.trial} was clearly behind after {counted(row.dropped_after, 'seed')}"


def _optimism(found: Confirmation) -> Iterator[str]:
    """How far the search's best value, which was chosen for being low, is from its mean with fresh seeds."""
    searched = [row for row in found.rows if row.searched is not None and row.optimism is not None]
    best = min(searched, key=lambda row: (row.searched, row.trial), default=None)
    if best is not None and best.optimism is not None:
        is_best = best.searched == min(row.searched for row in found.rows if row.searched is not None)
        which = "the search's best" if is_best else "the best value of those with fresh seeds"
        gap = f"{abs(best.optimism):.4f} {'better' if best.optimism > 0 else 'worse'}"
        yield f"{which}, {best.searched:.4f} of {trial_name(best.trial)}, is {gap} than its mean with fresh seeds"


def _change_text(row: CandidateResult, found: Confirmation) -> str:
    if row.trial == BASELINE_TRIAL:
        return rival_text(found, ": the best other setting, ")
    if row.change is None or row.better is None:
        return ""
    interval = ""
    if found.change_low is not None and found.change_high is not None:
        interval = f" (95% interval {found.change_low:+.4f} to {found.change_high:+.4f})"
    probability = f"{row.better:.3f}" if row.better < 0.9995 else "over 0.999"
    return f": a change of {row.change:+.4f}{interval}, better with probability {probability}"


def rival_text(found: Confirmation, start: str) -> str:
    """How the best other setting compares with the recommended baseline; empty if none was measured."""
    rival = next((row for row in found.rows if row.trial == found.rival), None)
    if rival is None or rival.change is None:
        return ""
    interval = ""
    if rival.change_low is not None and rival.change_high is not None:
        interval = f" (95% interval {rival.change_low:+.4f} to {rival.change_high:+.4f})"
    return f"{start}trial {rival.trial}, is a change of {rival.change:+.4f}{interval}"
