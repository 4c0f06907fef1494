"""Where the trials of a run train: the engine, how many at once, how wide a stack is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from search.engines.engine_options import EngineOptions
from search.engines.lockstep.sizing import LargestNetwork
from search.engines.placement import Work
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
    assert "1 of 2 GPUs stay idle" in said(gpus=2, engine="inline")
    assert not said(gpus=2)
