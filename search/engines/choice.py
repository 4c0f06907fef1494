"""Which engine trains, on which device, with how many workers: from what was asked for to an engine at hand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from data_utils.prepared import fingerprint
from search.engines import Engine
from search.engines.inline import InlineEngine
from search.engines.processes import ProcessEngine, visible_gpus
from search.engines.worker import Setup
from search.errors import DefinitionError
from search.machine import checked_device
from search.parts import Parts

EngineName = Literal["inline", "processes"]


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Who trains."""

    device: str
    """`auto`, `cpu`, `cuda` or `cuda:N`."""

    workers: int = 1
    engine: EngineName | None = None
    """None: `inline` for one worker, if no time limit of a trial has to be kept from outside."""

    trial_timeout_s: float | None = None
    """What a trial may take, all its epochs together."""

    def kind(self) -> EngineName:
        """Which engine is meant.

        Raises:
            DefinitionError: the one that was named cannot do what else was asked for.
        """
        needs = "--workers" if self.workers > 1 else "--trial-timeout" if self.trial_timeout_s is not None else ""
        if self.engine == "inline" and needs:
            raise DefinitionError(
                f"the engine `inline` trains in this process: {needs} is not for it",
                expected="--engine processes, or none named",
            )
        return self.engine or ("processes" if needs else "inline")

    def hire(self, parts: Parts, runs: Path) -> Engine:
        """The engine, for trials on these clips.

        Raises:
            DefinitionError: there is no such device, or the engine cannot do what was asked for.
        """
        device = checked_device(self.device)
        if self.kind() == "inline":
            return InlineEngine(parts)
        return ProcessEngine(
            Setup(parts.data.folder, runs, parts.split, fingerprint(parts.data), gpu=None),
            slots=self.workers,
            gpus=visible_gpus(device, torch.cuda.device_count()),
            trial_timeout_s=math.inf if self.trial_timeout_s is None else self.trial_timeout_s,
            emit=parts.emit,
        )


def checked_engine(name: str | None) -> EngineName | None:
    """The engine that is meant; None if none was named.

    Raises:
        DefinitionError: there is no such engine.
    """
    if name is None:
        return None
    for known in get_args(EngineName):
        if name == known:
            return known
    raise DefinitionError("there is no such engine", got=name, expected=" or ".join(get_args(EngineName)))
