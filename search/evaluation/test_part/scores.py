"""Scores of models on clips that they have never seen, computed from logits. Pure functions."""

# S seeds, R models of a seed (folds and repeats), C clips, K words, D bootstrap resamples

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from model.metrics import Metrics, measure
from search.study.openings import ModelScore, SettingScore, SignerAccuracy

_RESAMPLES = 4000
"""Bootstrap resamples of seeds and clips. The ends of the interval then vary by about a hundredth of its width."""


@dataclass(frozen=True)
class SeedLogits:
    """The logits of the models of one seed."""

    seed: int
    """Its number in the confirmation, from 1."""

    logits: Sequence[Float[Tensor, "C K"]]
    """One tensor per model."""

    temperatures: Sequence[float]
    """Of each model, fitted on its validation clips."""


def score_setting(
    trial: int, seeds: Sequence[SeedLogits], labels_C: Int[Tensor, " C"], signer_C: Int[np.ndarray, " C"], names: Sequence[str]
) -> SettingScore:
    """Means over models and seeds. `signer_C` holds indices into `names`."""
    plain = [[measure(logits, labels_C) for logits in seed.logits] for seed in seeds]
    scaled = [
        [measure(logits / t, labels_C) for logits, t in zip(seed.logits, seed.temperatures, strict=True)] for seed in seeds
    ]
    hits_SC = hit_rates(seeds, labels_C)
    top1, loss = hits_SC.mean(axis=1).tolist(), [fmean(one.loss for one in models) for models in plain]
    return SettingScore(
        trial=trial,
        seeds=len(seeds),
        top1=fmean(top1),
        top1_sd=stdev(top1) if len(top1) > 1 else 0.0,
        loss=fmean(loss),
        loss_sd=stdev(loss) if len(loss) > 1 else 0.0,
        loss_ts=_mean(scaled, "loss"),
        ece=_mean(plain, "ece"),
        ece_ts=_mean(scaled, "ece"),
        ece_mass=_mean(plain, "ece_mass"),
        ece_mass_ts=_mean(scaled, "ece_mass"),
        temperature=fmean(t for seed in seeds for t in seed.temperatures),
        signers=tuple(
            SignerAccuracy(signer=name, clips=int((signer_C == n).sum()), top1=float(hits_SC[:, signer_C == n].mean()))
            for n, name in enumerate(names)
        ),
        models=tuple(
            ModelScore(seed.seed, n, one.top1, one.loss, ts.loss, one.ece, ts.ece)
            for seed, ones, scaled_ones in zip(seeds, plain, scaled, strict=True)
            for n, (one, ts) in enumerate(zip(ones, scaled_ones, strict=True))
        ),
    )


def hit_rates(seeds: Sequence[SeedLogits], labels_C: Int[Tensor, " C"]) -> Float[np.ndarray, "S C"]:
    """For each seed and clip the share of the seed's models that predict the clip's word."""
    hits: list[Bool[Tensor, "R C"]] = [torch.stack([one.argmax(dim=1) == labels_C for one in seed.logits]) for seed in seeds]
    return np.stack([hit.double().mean(dim=0).numpy() for hit in hits])


def gain_interval(
    ours_SC: Float[np.ndarray, "S C"], base_SC: Float[np.ndarray, "S C"], rng: np.random.Generator
) -> tuple[float, float]:
    """A 95% interval of the difference in accuracy, over other seeds and other clips of these signers.

    Seeds and clips are both resampled with replacement, paired: the same ones for both settings. Source: Owen 2007, "The
    pigeonhole bootstrap", which errs on the wide side.
    """
    gap_SC = ours_SC - base_SC
    seed_DS, clip_DC = (rng.multinomial(size, np.full(size, 1 / size), _RESAMPLES) / size for size in gap_SC.shape)
    means = (seed_DS @ gap_SC * clip_DC).sum(axis=1)  # a resample weights each seed and clip by its count
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _mean(metrics: Sequence[Sequence[Metrics]], name: str) -> float:
    return fmean(getattr(one, name) for models in metrics for one in models)
