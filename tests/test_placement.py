"""Where the trials of a run train: the engine, how many at once, how wide a stack is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from search.engines.engine_options import EngineOptions
from search.engines.lockstep.sizing import LargestNetwork, bytes_per_training
from search.engines.placement import Work, lockstep_trials
from search.trial.gpus import Gpu

GPU = Gpu(visible="0", name="A GPU", memory=16 << 30, free=16 << 30, architecture="sm_90", driver="1", problem="")
WORK = Work(
    network=LargestNetwork(width=64, layers=2, heads=2, ffn_width=256, batch_size=32),
    lengths_C=np.full(1000, 38),
    words=10,
    trainings=1,
    left=40,
    planned=40,
)


@pytest.mark.parametrize(
    ("options", "gpus", "work", "expected"),
    [
        ({}, 1, {}, ("lockstep", 10, 10)),
        ({}, 2, {}, ("lockstep", 10, 5)),
        ({}, 1, {"planned": None}, ("lockstep", 32, 32)),
        ({}, 2, {"left": 3}, ("lockstep", 3, 5)),  # a run that goes on near its target: stacks as wide as before
        ({}, 1, {"left": 0}, ("lockstep", 1, 10)),
        ({"workers": 7}, 2, {}, ("lockstep", 7, 4)),
        ({"workers": 8}, 1, {"share_of_each": 3}, ("lockstep", 8, 24)),
        ({"workers": 8}, 1, {"alike": 3}, ("lockstep", 8, 3)),
        ({}, 2, {"apart": ("width",)}, ("processes", 2, 1)),
        ({"workers": 6}, 2, {"shares_order": False}, ("processes", 6, 3)),
        ({"engine": "lockstep"}, 1, {"apart": ("width",)}, ("lockstep", 10, 10)),
        ({"engine": "processes"}, 2, {}, ("processes", 2, 1)),
        ({"engine": "inline"}, 2, {}, ("inline", 1, 1)),
        ({}, 0, {}, ("inline", 1, 1)),
        ({"workers": 4}, 0, {}, ("processes", 4, 4)),
    ],
)
def test_engine_workers_and_width(
    options: dict[str, Any], gpus: int, work: dict[str, Any], expected: tuple[str, int, int]
) -> None:
    """All GPUs are used; trials that cannot share a stack train one by one; a quarter of the planned trials train at once."""
    device = "cuda" if gpus else "cpu"
    placement = EngineOptions(device=device, **options).place(device, (GPU,) * gpus, replace(WORK, **work))
    assert (placement.engine, placement.workers, placement.width) == expected


def test_what_a_user_may_not_expect_is_said() -> None:
    """Why trials train one by one on a GPU, what it costs to ask for a stack all the same, which GPUs are idle."""

    def said(gpus: int = 1, work: Work = WORK, **options: Any) -> str:
        return " ".join(EngineOptions(device="cuda", **options).place("cuda", (GPU,) * gpus, work).notices())

    shapes = replace(WORK, apart=("width", "heads"))
    assert "differ in `width`, `heads` cannot train in one stack: a worker trains one at a time" in said(work=shapes)
    assert "each such stack costs as much as a full one" in said(work=shapes, engine="lockstep")
    assert not said(gpus=2, work=replace(shapes, planned=4, share_of_each=3), engine="lockstep"), "each stack has one trial"
    assert "1 of 2 GPUs stays idle: the engine `inline` trains one trial at a time" in said(gpus=2, engine="inline")
    assert "1 of 2 GPUs stays idle: --workers 1 trains one trial at a time" in said(gpus=2, workers=1)
    assert "2 of 4 GPUs stay idle: --workers 2 trains 2 trials" in said(gpus=4, workers=2, engine="processes")
    assert "--workers 1 trains one training at a time" in said(gpus=2, workers=1, work=replace(WORK, unit="training"))
    assert not said(gpus=2)


def test_how_many_at_once() -> None:
    """As many as fit, at most a quarter of the trials of a search, and one on each GPU if there are as many."""
    work, gpu, small = replace(WORK, left=200, planned=200), replace(GPU, free=79 << 30), replace(GPU, free=2 << 30)
    assert 70e6 < bytes_per_training(work.network, work.lengths_C, work.words) < 80e6
    assert lockstep_trials([gpu], work) == 32
    assert lockstep_trials([gpu] * 2, work) == 50
    assert lockstep_trials([gpu] * 2, replace(work, planned=3, left=3)) == 2
    assert lockstep_trials([small], work) == 14
    assert lockstep_trials([gpu, small], replace(work, trainings=3)) == 8
    assert lockstep_trials([gpu], replace(work, network=replace(work.network, ffn_width=10**9))) == 1


@pytest.mark.parametrize(
    ("options", "count", "text"),
    [
        ({}, 2, "2 GPUs (A GPU), 5 trials in lockstep on each"),
        ({"workers": 5}, 2, "2 GPUs (A GPU), 5 trials in lockstep"),
        ({"workers": 2}, 2, "2 GPUs (A GPU), one trial on each"),
        ({"workers": 1}, 2, "cuda (A GPU), one trial at a time"),
        ({}, 1, "cuda (A GPU), 10 trials in lockstep"),
        ({"engine": "processes"}, 2, "2 GPUs (A GPU), one worker on each"),
        ({"engine": "processes", "workers": 6}, 2, "2 GPUs (A GPU), 6 workers"),
        ({"engine": "inline"}, 3, "cuda (A GPU)"),
        ({"workers": 4}, 0, "cpu, 4 workers"),
    ],
)
def test_where_trials_train_in_words(options: dict[str, Any], count: int, text: str) -> None:
    """The first lines of a run say it."""
    device = "cuda" if count else "cpu"
    chosen = EngineOptions(device=device, **options)
    assert chosen.place(device, (GPU,) * count, WORK).text() == text
    trainings = chosen.place(device, (GPU,) * count, replace(WORK, unit="training"))
    assert trainings.text() == text.replace("trial", "training")
