"""Which engine trains, on which device, with how many workers: from what was asked for to an engine at hand."""

from __future__ import annotations

import importlib.util
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from data_utils.prepared import fingerprint
from search.definition.definition import Resources
from search.engines.engine import Engine
from search.engines.inline import InlineEngine
from search.engines.job_run import Setup
from search.engines.processes import ProcessEngine, visible_gpus
from search.errors import DefinitionError
from search.trial.clips import TrialClips
from search.trial.machine import checked_device

EngineName = Literal["inline", "processes", "ray"]


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Who trains."""

    device: str
    """`auto`, `cpu`, `cuda` or `cuda:N`."""

    workers: int = 1
    engine: EngineName | None = None
    """None: `inline` for one worker, if no time limit of a trial has to be kept from outside."""

    trial_timeout_s: float | None = None
    """What a trial may take, all its epochs together."""

    address: str | None = None
    """Of the Ray cluster; None: what RAY_ADDRESS says, else a Ray of this run's own."""

    def engine_name(self) -> EngineName:
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
        if self.address is not None and self.engine != "ray":
            raise DefinitionError("--address is the address of a Ray cluster", hint="add `--engine ray`")
        if self.engine == "ray" and importlib.util.find_spec("ray") is None:
            raise DefinitionError("the engine `ray` needs a package more", hint="pip install 'islr-search[ray]'")
        return self.engine or ("processes" if needs else "inline")

    def resolve_device(self) -> str:
        """The device that is meant: `auto` is a matter of this machine, or of those of the cluster.

        Raises:
            DefinitionError: there is no such device, or the engine cannot do what was asked for.
            ResourceError: there is no connection to the cluster.
        """
        if self.engine_name() != "ray":
            return checked_device(self.device)
        if self.device not in ("auto", "cpu", "cuda"):
            raise DefinitionError(
                f"the device `{self.device}` cannot be used",
                got="a cluster gives its GPUs out itself",
                expected="auto, cpu or cuda",
            )
        if self.device != "auto" and not (self.address or os.environ.get("RAY_ADDRESS")):
            return self.device
        from search.engines.ray.cluster import Cluster

        cluster = Cluster(self.address)  # one that is not there is told before anything is made
        if self.device != "auto":
            return self.device
        return "cuda" if cluster.has_gpus else "cpu"

    def create_engine(self, trial_clips: TrialClips, runs: Path, resources: Resources = Resources()) -> Engine:
        """The engine, for trials on these clips. `resources`: what each worker asks of a cluster.

        Raises: as `resolve_device`.
        """
        device = self.resolve_device()
        if self.engine_name() == "inline":
            return InlineEngine(trial_clips)
        setup = Setup(trial_clips.data.folder, runs, trial_clips.split, fingerprint(trial_clips.data), gpu=None)
        timeout_s = math.inf if self.trial_timeout_s is None else self.trial_timeout_s
        if self.engine_name() == "ray":
            from search.engines.ray.cluster import Cluster
            from search.engines.ray.engine import RayEngine

            return RayEngine(
                Cluster(self.address),
                trial_clips,
                setup,
                workers=self.workers,
                device=device,
                resources=resources,
                trial_timeout_s=timeout_s,
            )
        return ProcessEngine(
            setup,
            slots=self.workers,
            gpus=visible_gpus(device, torch.cuda.device_count()),
            trial_timeout_s=timeout_s,
            emit=trial_clips.emit,
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
