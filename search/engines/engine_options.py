"""Options of engines (`--engine`, `--workers`, `--device`, ...): checks them and creates the engine."""

from __future__ import annotations

import importlib.util
import math
import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_utils.prepared import fingerprint
from model.kernel.library import NoKernel, load_library
from search.definition.definition import Resources
from search.engines.engine import Engine
from search.engines.inline import InlineEngine
from search.engines.job_run import Setup
from search.engines.lockstep.engine import LockstepEngine
from search.engines.placement import Placement, Work, lockstep_trials
from search.engines.processes import ProcessEngine
from search.errors import DefinitionError, require_in_range
from search.trial.clips import TrialClips
from search.trial.gpus import Gpu, find_gpus, require_working
from search.trial.machine import checked_device

ENGINES = ("inline", "processes", "lockstep", "ray")


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Where trials train, and how many at once."""

    device: str
    """`auto`, `cpu`, `cuda` or `cuda:N`."""

    workers: int | None = None
    """Trials at once; None: with `lockstep` as many as fit, with `processes` one on each GPU, otherwise one."""

    engine: str | None = None
    """`inline`, `processes`, `lockstep` or `ray`; None: on a GPU `lockstep`, on the CPU `inline` for one worker without a time
    limit per trial, otherwise `processes`."""

    trial_timeout_s: float | None = None
    """Time allowed for a trial, all its epochs together."""

    address: str | None = None
    """Of the Ray cluster; None: the value of RAY_ADDRESS, else a local Ray instance that is started for this run."""

    def __post_init__(self) -> None:
        if self.workers is not None:
            require_in_range("workers", self.workers, 1)

    def engine_name(self, device: str) -> str:
        """The engine to use on a device, which is resolved.

        Raises: same as `require_possible`.
        """
        self.require_possible()
        if self.engine is not None:
            return self.engine
        needs_processes = self._many or self.trial_timeout_s is not None
        if device.startswith("cuda") and (needs_processes or not _is_daemon()):
            name = "lockstep"
        else:
            name = "processes" if needs_processes else "inline"
        _require_no_daemon(name)
        return name

    @property
    def _many(self) -> bool:
        return self.workers is not None and self.workers > 1

    def require_possible(self) -> None:
        """Refuses an engine that there is not, or that does not support the other options.

        Raises:
            DefinitionError: see above.
        """
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            what = "this script starts its search again in each process that it starts"
            raise DefinitionError(what, hint='put the call under `if __name__ == "__main__":`')
        if self.engine not in (None, *ENGINES):
            raise DefinitionError("there is no such engine", got=self.engine, expected=" or ".join(ENGINES))
        needs = "--workers" if self._many else "--trial-timeout" if self.trial_timeout_s is not None else ""
        if self.engine == "inline" and needs:
            raise DefinitionError(
                f"the engine `inline` does not support {needs}",
                expected="--engine processes, or no --engine",
            )
        if self.address is not None and self.engine != "ray":
            raise DefinitionError("--address is the address of a Ray cluster", hint="add `--engine ray`")
        if self.engine == "ray" and importlib.util.find_spec("ray") is None:
            raise DefinitionError("the engine `ray` needs the package Ray", hint="pip install 'islr-search[ray]'")
        _require_no_daemon(self.engine or ("processes" if needs else ""))

    def resolve_device(self) -> str:
        """The device to use. `auto` is resolved for this machine, or for the machines of the cluster.

        Raises:
            DefinitionError: there is no such device, or the options do not fit together.
            ResourceError: the connection to the cluster failed.
        """
        self.require_possible()
        if self.engine != "ray":
            return checked_device(self.device)
        if self.device not in ("auto", "cpu", "cuda"):
            what, got = f"the device `{self.device}` cannot be used", "a Ray cluster assigns GPUs itself"
            raise DefinitionError(what, got=got, expected="auto, cpu or cuda")
        if self.device != "auto" and not (self.address or os.environ.get("RAY_ADDRESS")):
            return self.device
        from search.engines.ray.cluster import Cluster

        cluster = Cluster(self.address)  # fails here, before anything is created, if there is no such cluster
        if self.device != "auto":
            return self.device
        return "cuda" if cluster.has_gpus else "cpu"

    def working_gpus(self, device: str) -> tuple[Gpu, ...]:
        """The GPUs of this machine that a resolved device names, each of which computes; none on the CPU or on a cluster.

        Raises:
            ResourceError: one does not compute.
        """
        gpus = () if self.engine == "ray" else find_gpus(device)
        require_working(gpus)
        return gpus

    def shares_order(self, device: str, apart: Sequence[str]) -> bool:
        """Whether the trials of a study that is made with these options share an order of the clips.

        `device`: resolved; `apart`: see `Work`.
        """
        return self.engine_name(device) == "lockstep" and not (self.engine is None and apart)

    def require_precision(self, precision: str, device: str) -> None:
        """Refuses a precision that trials on this machine cannot have. With the engine `ray`, workers refuse it themselves.

        Raises:
            DefinitionError: see above.
        """
        if precision == "float32" or self.engine == "ray":
            return
        try:
            if (device == "cpu") == (precision == "tf32"):
                raise NoKernel(f"it is for {'a GPU' if device == 'cpu' else 'the CPU'}, and the device is {device}")
            if precision == "bf16":
                load_library("bf16")
        except NoKernel as error:
            what = f"the precision {precision} cannot be used here"
            raise DefinitionError(what, got=str(error), expected="float32", hint="--set train.precision=float32") from error

    def place(self, device: str, gpus: tuple[Gpu, ...], work: Work) -> Placement:
        """Where the trials of a run train. `device`, `gpus`: see `resolve_device` and `working_gpus`."""
        name = self.engine_name(device)
        if name == "lockstep" and self.engine is None and (work.apart or not work.shares_order):
            name = "processes"
        if self.workers is not None:
            workers = at_once = self.workers
        elif name == "lockstep":
            at_once = lockstep_trials(gpus, work)
            workers = max(min(at_once, work.left), 1)
        else:
            workers = at_once = max(len(gpus), 1) if name == "processes" else 1
        return Placement(
            engine=name,
            device=device,
            gpus=gpus,
            workers=workers,
            width=work.width(-(-at_once // max(len(gpus[:at_once]), 1))),
            is_default=self.engine is None,
            has_chosen_workers=self.workers is not None,
            shares_order=work.shares_order,
            apart=work.apart,
            unit=work.unit,
        )

    def create_engine(
        self, placement: Placement, trial_clips: TrialClips, runs: Path, resources: Resources = Resources()
    ) -> Engine:
        """The engine, for trials on these clips. `resources`: what each worker requests from a cluster.

        Raises: same as `resolve_device`.
        """
        name, device, workers = placement.engine, placement.device, placement.workers
        if name == "inline":
            return InlineEngine(trial_clips)
        setup = Setup(trial_clips.data.folder, runs, trial_clips.split, fingerprint(trial_clips.data), gpu=None)
        timeout_s = math.inf if self.trial_timeout_s is None else self.trial_timeout_s
        if name == "ray":
            from search.engines.ray.cluster import Cluster
            from search.engines.ray.engine import RayEngine

            cluster = Cluster(self.address)
            return RayEngine(
                cluster, trial_clips, setup, workers=workers, device=device, resources=resources, trial_timeout_s=timeout_s
            )
        gpus, emit = tuple(gpu.visible for gpu in placement.used), trial_clips.emit
        if name == "processes":
            return ProcessEngine(setup, slots=workers, gpus=gpus, trial_timeout_s=timeout_s, emit=emit)
        width = placement.width
        return LockstepEngine(setup, slots=workers, gpus=gpus, width=width, trial_timeout_s=timeout_s, emit=emit)


def _is_daemon() -> bool:
    return multiprocessing.current_process().daemon  # such as a worker of multiprocessing.Pool


def _require_no_daemon(engine: str) -> None:
    if engine in ("processes", "lockstep") and _is_daemon():
        got = "this process is a daemon, and daemons cannot have child processes"
        raise DefinitionError("workers cannot be started here", got=got, hint="use --engine inline with one worker")
