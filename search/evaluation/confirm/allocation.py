"""Decides which candidate of a confirmation is trained with the next fresh seed, and when enough is known.

A confirmation has two phases. First the candidates compete: each next training goes to the one for which it is expected to
improve the choice most (the knowledge gradient), given the search and all fresh values so far. Then the best candidate and the
baseline are measured with the other half of the seeds. Those values had no part in the choice of the candidate; of the two, the
one with the lower estimate is recommended. No other candidate is measured after that, even if it has the lower estimate now:
whoever goes on until a measurement is good finds a lucky one.

Sources: Frazier, Powell and Dayanik 2009, "The knowledge-gradient policy for correlated normal beliefs"; a second, independent
sample for the chosen one, Rinott 1978, "On two-stage selection procedures".
"""

# M settings that compete, the baseline among them

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr

from search import BASELINE_TRIAL
from search.evaluation.confirm.choice import choose
from search.evaluation.confirm.values import RISK, Values, has_failed, known_values, num_measuring
from search.study.belief import Belief
from search.study.confirmed import Candidate

BATCH = 4
"""Trainings that are decided together, from the complete batches before them: the same ones for any number of workers."""

MARGIN = 0.5
"""The candidates no longer compete once the chance is at most `RISK` that one of them is better than the best by more than
`MARGIN` standard deviations of the noise between seeds. If trainings run out first, the chance is larger; it is reported."""

SHARE, USUAL_SEEDS = 0.4, 8
"""Most trainings in which candidates compete, as a share of the finished trials of the search, with at most the usual number of
seeds for one candidate. In the simulation of the tests a tenth is enough on average."""

_DRAWS = 1000


@dataclass(frozen=True)
class Decision:
    """What follows from the trainings so far."""

    missing: tuple[tuple[int, int], ...]
    """The next trainings, as (trial, seed), each independent of the others; empty at the end."""

    left: int
    """How many trainings there will be at most from now on, including those."""

    measured: tuple[int, ...]
    """The settings that have been measured, in that order."""

    belief: Belief | None
    """The true values of the settings of which no training failed; None if there are none."""

    best: int | None
    """The setting to use; None if none was measured."""

    risk: float | None
    """The chance that another setting is better by more than `margin`; None if none was measured."""

    margin: float | None
    """`MARGIN` standard deviations of the noise."""


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """The rule of one confirmation. Equal values give equal decisions, in whatever order they were trained."""

    candidates: Sequence[Candidate]
    """The baseline among them."""

    seeds: int
    """The most seeds that one candidate gets; the later half measures."""

    limit: int
    """The most trainings in which candidates compete."""

    believe: Callable[[Mapping[int, Sequence[float]], Sequence[int]], Belief | None]
    """The true values of some settings, given fresh values by trial, besides all trials of the search."""

    _known: dict[tuple[object, ...], Belief | None] = field(default_factory=dict, repr=False, compare=False)

    def decide(self, values: Values) -> Decision:
        """Replays the confirmation from its beginning up to the first batch that is not complete."""
        used: dict[int, dict[int, float | None]] = {one.trial: {} for one in self.candidates}
        while batch := self._competing(used):
            if missing := _add(batch, values, used):
                return self._decision(used, missing, left=self._room(used) + 2 * num_measuring(self.seeds), measured=())
        measured: list[int] = []
        while batch := self._measuring(used, measured):
            if missing := _add(batch, values, used):
                return self._decision(used, missing, left=len(missing), measured=measured)
            measured += [trial for trial in dict.fromkeys(trial for trial, _ in batch) if not has_failed(used[trial])]
        return self._decision(used, [], left=0, measured=measured)

    def _competing(self, used: Values) -> list[tuple[int, int]]:
        """The next batch of the first phase; empty if it is over."""
        belief = self._believe(used)
        room = {trial: self.seeds - num_measuring(self.seeds) - len(used[trial]) for trial in (belief.trials if belief else ())}
        count = min(BATCH, self._room(used))
        if belief is None or count < 1 or self._risk(belief, int(np.argmin(belief.mean_M))) <= RISK:
            return []
        batch: list[tuple[int, int]] = []
        covariance_MM, variance = belief.covariance_MM, belief.noise**2
        for _ in range(count):
            gain_M = knowledge_gradient(belief.mean_M, covariance_MM, variance)
            open_ = [index for index, trial in enumerate(belief.trials) if room[trial] > 0]
            if not open_:
                break
            best = max(open_, key=lambda index: gain_M[index])
            trial = belief.trials[best]
            batch.append((trial, self.seeds - num_measuring(self.seeds) - room[trial] + 1))
            room[trial] -= 1
            learned_M = covariance_MM[:, best]
            covariance_MM = covariance_MM - np.outer(learned_M, learned_M) / (learned_M[best] + variance)
        return batch

    def _measuring(self, used: Values, measured: Sequence[int]) -> list[tuple[int, int]]:
        """The next batch of the second phase; empty if it is over."""
        is_done = any(trial != BASELINE_TRIAL for trial in measured)
        alive = [one for one in self.candidates if one.trial != BASELINE_TRIAL and not has_failed(used[one.trial])]
        belief = self._believe(used)
        first = self.seeds - num_measuring(self.seeds) + 1
        settings = [] if has_failed(used[BASELINE_TRIAL]) or BASELINE_TRIAL in measured else [BASELINE_TRIAL]
        if alive and belief is not None and not is_done:
            settings.append(choose(alive, belief).best)
        return [(trial, seed) for seed in range(first, self.seeds + 1) for trial in settings]

    def _decision(self, used: Values, missing: Sequence[tuple[int, int]], *, left: int, measured: Sequence[int]) -> Decision:
        belief = self._believe(used)
        best = risk = margin = None
        if belief is not None and measured:
            best = choose([one for one in self.candidates if one.trial in measured], belief).best
            risk, margin = self._risk(belief, belief.trials.index(best)), MARGIN * belief.noise
        return Decision(tuple(missing), left, tuple(measured), belief, best, risk, margin)

    def _room(self, used: Values) -> int:
        return self.limit - sum(map(len, used.values()))

    def _believe(self, used: Values) -> Belief | None:
        alive = [one.trial for one in self.candidates if not has_failed(used[one.trial])]
        fresh = {trial: known_values(used[trial]) for trial in alive}
        key = tuple((trial, *fresh[trial]) for trial in alive)
        if key not in self._known:
            self._known[key] = self.believe(fresh, alive) if alive else None
        return self._known[key]

    def _risk(self, belief: Belief, best: int) -> float:
        """The chance that a setting is better than the one at index `best` by more than the margin."""
        spread = np.trace(belief.covariance_MM) / len(belief.trials)
        factor_MM = np.linalg.cholesky(belief.covariance_MM + 1e-7 * spread * np.eye(len(belief.trials)))
        normal = np.random.default_rng(0).standard_normal((_DRAWS, len(belief.trials)))
        draws = belief.mean_M + normal @ factor_MM.T
        return float((draws[:, best] - draws.min(axis=1) > MARGIN * belief.noise).mean())


def _add(batch: Sequence[tuple[int, int]], values: Values, used: dict[int, dict[int, float | None]]) -> list[tuple[int, int]]:
    """Adds the values of a batch to the used ones if all are known; returns the trainings that are missing."""
    missing = [(trial, seed) for trial, seed in batch if seed not in values.get(trial, {})]
    for trial, seed in () if missing else batch:
        used[trial][seed] = values[trial][seed]
    return missing


def most_competing(finished: int, seeds: int) -> int:
    """The most trainings in which candidates compete: more for a longer search, and where more seeds are allowed."""
    return max(BATCH, int(SHARE * finished * seeds / USUAL_SEEDS))


def knowledge_gradient(
    mean_M: Float[np.ndarray, " M"], covariance_MM: Float[np.ndarray, "M M"], noise: float
) -> Float[np.ndarray, " M"]:
    """How much lower the lowest mean is expected to be after one more training of each setting; `noise` is its variance."""
    change_MM = covariance_MM / np.sqrt(np.diag(covariance_MM) + noise)  # column m: of all means, by a training of setting m
    return np.array([_expected_gain(-mean_M, change_MM[:, setting]) for setting in range(len(mean_M))])


def _expected_gain(height_M: Float[np.ndarray, " M"], slope_M: Float[np.ndarray, " M"]) -> float:
    """E[max(height + slope Z)] - max(height) for a standard normal Z, exactly.

    However small it is, it is not 0, so that an order remains where no training promises much. Source: Frazier, Powell and
    Dayanik 2009, algorithm 1: the lines that are highest somewhere, by slope, and where each takes over from the one before.
    """
    order = np.lexsort((height_M, slope_M))
    lines: list[int] = []
    starts: list[float] = []
    for line in order.tolist():
        start = -math.inf
        while lines:
            last = lines[-1]
            if slope_M[line] <= slope_M[last]:  # equal slopes: this one is at least as high
                start = starts[-1]
            else:
                start = float((height_M[last] - height_M[line]) / (slope_M[line] - slope_M[last]))
            if start > starts[-1]:
                break
            lines.pop()
            starts.pop()
            start = -math.inf
        lines.append(line)
        starts.append(start)
    far = np.abs(np.array(starts[1:]))
    density = np.exp(-0.5 * far**2) / math.sqrt(2 * math.pi)
    return float(np.diff(slope_M[lines]) @ (density - far * ndtr(-far)))
