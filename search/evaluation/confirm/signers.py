"""How much a confirmation's result depends on the validation signers: the spread between signers beside that between seeds."""

# S seeds, J validation signers

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from search.study.confirmed import SignerSpread
from search.trial.outcome import SignerScore

PER_SIGNER = {"val_loss": lambda score: score.val_loss, "val_error": lambda score: 1 - score.val_top1}
"""The metrics that are known for each signer."""

Scores = Sequence[Sequence[SignerScore]]
"""The scores of one setting on each signer, by seed."""


def signer_spread(metric: str, scores: Scores, baseline: Scores | None, between_seeds: float | None) -> SignerSpread | None:
    """The spread of a setting's value, and of its change to the baseline, between seeds and between signers.

    The value is the mean of the signers' values, weighted by their clips. Its standard error over signers, and that of the
    change, is that of a ratio estimate: the signers count as drawn at random (Cochran 1977, "Sampling techniques", 6.3). The
    variance between signers is that of their means without the share that the seeds explain (Snedecor and Cochran,
    "Statistical methods", 13.3).

    Args:
        metric: of the objective.
        scores: of the setting.
        baseline: of the baseline; None if it is the setting.
        between_seeds: standard deviation of the setting's value between seeds.
    """
    clips = {score.signer: score.clips for one in scores for score in one}
    if not clips:
        return None
    if len(clips) < 2 or metric not in PER_SIGNER:
        return SignerSpread(
            signers=len(clips), between_seeds=between_seeds, between_signers=None, error=None, change_error=None
        )
    by_signer = _by_signer(metric, scores)
    mean = {signer: statistics.fmean(values) for signer, values in by_signer.items()}
    by_seeds = statistics.fmean(
        statistics.variance(values) / len(values) if len(values) > 1 else 0.0 for values in by_signer.values()
    )
    change_error = None
    if baseline is not None:
        base = {signer: statistics.fmean(values) for signer, values in _by_signer(metric, baseline).items()}
        if base.keys() == mean.keys():
            change_error = _standard_error({signer: mean[signer] - base[signer] for signer in mean}, clips)
    return SignerSpread(
        signers=len(clips),
        between_seeds=between_seeds,
        between_signers=math.sqrt(max(0.0, statistics.variance(mean.values()) - by_seeds)),
        error=_standard_error(mean, clips),
        change_error=change_error,
    )


def _by_signer(metric: str, scores: Scores) -> dict[str, list[float]]:
    """The values of each signer, one per seed: means over the trainings in which the signer validated."""
    values: dict[str, list[float]] = {}
    for one in scores:
        for signer in dict.fromkeys(score.signer for score in one):
            mine = [PER_SIGNER[metric](score) for score in one if score.signer == signer]
            values.setdefault(signer, []).append(statistics.fmean(mine))
    return values


def _standard_error(value: Mapping[str, float], clips: Mapping[str, int]) -> float:
    """The standard error of the mean of the signers' values, weighted by their clips."""
    total = sum(clips.values())
    mean = math.fsum(clips[signer] * value[signer] for signer in value) / total
    squares = math.fsum((clips[signer] / total * (value[signer] - mean)) ** 2 for signer in value)
    return math.sqrt(squares * len(value) / (len(value) - 1))
