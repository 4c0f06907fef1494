"""The connection to a Ray cluster, or to a local Ray instance of this run. Only `search.engines.ray` imports Ray."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import socket
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_utils.errors import ExplainedError, ResourceError
from search.definition.definition import amount_text
from search.engines.job_run import stop_signals_blocked
from search.engines.ray.actor import ActorReady
from search.errors import DefinitionError

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # it would upload the working directory with all its runs

import ray  # reads these variables when it is imported
import ray._private.worker

_ROOT = Path(__file__).resolve().parents[3]
"""The folder with this program's packages."""

_CONNECT_TIMEOUT_S = 10.0

_LOST_S = 30.0
"""A cluster that has been unreachable for this long is lost. Ray itself ends the process after 60 s."""

_CHECK_S = 2.0
"""Interval between checks whether the cluster is reachable."""

_LABEL_VERSION = (2, 49)
"""First Ray version whose actors can select machines by label."""

_MAX_PORT = 65535

_STORE_BYTES = 256 << 20
"""Object store size of a local Ray instance: its workers read the search's files, and little is transferred."""


@dataclass(frozen=True)
class Machine:
    """A machine of the cluster, which Ray calls a node."""

    id: str
    name: str
    """Host name."""


class Cluster:
    """This process's connection to Ray. There is one at a time."""

    def __init__(self, address: str | None) -> None:
        """`address`: same as for `ray.init`; None: the value of RAY_ADDRESS, else a local instance that ends with this process.

        Raises:
            DefinitionError: the address is invalid.
            ResourceError: there is no such cluster, or it does not answer.
        """
        variable = os.environ.get("RAY_ADDRESS")
        if not ray.is_initialized():
            if address or not variable:
                _connect(address or "local", f"--address {address}")
            else:
                _connect(variable, f"RAY_ADDRESS={variable}")
        with ray_errors():
            self.address = ray.get_runtime_context().gcs_address
            self._node_id = ray.get_runtime_context().get_node_id()
        self._checked_at = self._reached_at = time.monotonic()
        self.is_reachable = True
        """Result of the last check. While it is False, Ray must not be called."""

        self.excluded: set[Machine] = set()
        """Machines on which no more workers are requested."""

    @property
    def has_gpus(self) -> bool:
        """Whether any machine has a GPU."""
        with ray_errors():
            return bool(_resources().get("GPU", 0) > 0)

    def capacity(self, cpus: float, gpus: float) -> int:
        """How many workers fit on machines that are not excluded, if nothing else runs there."""
        count, excluded = 0.0, {machine.id for machine in self.excluded}
        for node in _nodes():
            if node["Alive"] and node["NodeID"] not in excluded:
                has = node["Resources"]
                by_gpus = math.floor(has.get("GPU", 0) / gpus + 1e-6) if gpus else math.inf
                count += min(math.floor(has.get("CPU", 0) / cpus + 1e-6), by_gpus)
        return int(count)

    def machine_of(self, actor: Any) -> Machine | None:
        """The machine of an actor, dead or alive; None if it is unknown."""
        if not self.is_reachable:
            return None
        state = ray._private.state.actors(actor._actor_id.hex())  # the public API needs the dashboard, which may be missing
        node_id = (state or {}).get("Address", {}).get("NodeID", "")
        return next((Machine(node_id, node["NodeManagerHostname"]) for node in _nodes() if node["NodeID"] == node_id), None)

    def text(self) -> str:
        """All its resources, such as `8 CPUs and 1 GPU on 2 machines`."""
        total = _resources()
        machines = sum(bool(node["Alive"]) for node in _nodes())
        amount = amount_text(total.get("CPU", 0), total.get("GPU", 0))
        return f"{amount} on {machines} machine{'' if machines == 1 else 's'}"

    def check(self, *, at_once: bool = False) -> None:
        """Checks whether the cluster is reachable, if a check is due or `at_once`, which is for when a worker was lost.

        Raises:
            ResourceError: the cluster is lost.
        """
        now = time.monotonic()
        if now - self._checked_at < _CHECK_S and not at_once:
            return
        self._checked_at, self.is_reachable = now, self._accepts_connections()
        if self.is_reachable:
            self._reached_at = now
        elif now - self._reached_at > _LOST_S:
            raise _lost_error(f"no answer from {self.address} for {now - self._reached_at:.0f} s")
        if at_once and self.is_reachable and not any(node["NodeID"] == self._node_id and node["Alive"] for node in _nodes()):
            raise _lost_error("the machine of this run was removed from the cluster")

    def _accepts_connections(self) -> bool:
        host, _, port = self.address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=1.0).close()
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Ends this run's workers, and a local Ray instance."""
        ray.shutdown()


def _resources() -> dict[str, float]:
    return ray.cluster_resources()  # type: ignore[no-untyped-call]


def _nodes() -> list[dict[str, Any]]:
    return ray.nodes()  # type: ignore[no-untyped-call]


def _lost_error(got: str) -> ResourceError:
    hint = "all finished trials are kept; once a cluster is running again, the same command resumes"
    return ResourceError("the Ray cluster is lost", got=got, hint=hint)


def excluding(machines: Collection[Machine]) -> dict[str, Any]:
    """Options for an actor that must not run on these machines; empty if this version of Ray does not support that."""
    if not machines or tuple(int(part) for part in ray.__version__.split(".")[:2]) < _LABEL_VERSION:
        return {}
    return {"label_selector": {"ray.io/node-id": f"!in({','.join(sorted(machine.id for machine in machines))})"}}


@contextlib.contextmanager
def ray_errors() -> Iterator[None]:
    """Turns errors of Ray inside the block into a `ResourceError`."""
    try:
        yield
    except (ray.exceptions.RayError, ConnectionError) as error:
        hint = "all finished trials are kept; the same command resumes"
        raise ResourceError("the Ray cluster failed", got=_first_line(error), hint=hint) from error


def _connect(address: str, given: str) -> None:
    """Connects without changing this process's output and signal handlers. `given`: the address as the user gave it."""
    if "://" in address:
        raise DefinitionError(
            "a search cannot use a Ray Client address: it must run inside the cluster",
            got=given,
            expected="auto or HOST:PORT",
            hint="run it on a machine of the cluster",
        )
    _require_reachable(address, given)
    logging.getLogger("ray").setLevel(logging.ERROR)
    local: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _STORE_BYTES} if address == "local" else {}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        # Workers import from the folder in which Ray is started; packages in a user's folder may have our names. A signal that
        # stops this run must not reach Ray's processes.
        with contextlib.chdir(_ROOT), stop_signals_blocked():
            ray.init(address=address, log_to_driver=False, configure_logging=False, **local)
            signal.signal(signal.SIGTERM, handler)
    except ValueError as error:
        raise _address_error(given) from error
    except (ray.exceptions.RayError, RuntimeError, OSError) as error:
        hint = "is it running, with the same versions of Ray and Python? Check with `ray status`"
        raise _connection_error(given, _first_line(error), hint) from error
    # Ray prints messages about its processes to the terminal, and has no public switch for it.
    ray._private.worker._worker_logs_enabled = False


def _require_reachable(address: str, given: str) -> None:
    """Fails fast where nothing answers: Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    if not host:
        return
    try:
        if int(port) > _MAX_PORT:
            raise _address_error(given)  # some systems would truncate the number
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_TIMEOUT_S).close()
    except (ValueError, OverflowError) as error:  # the port is no number or negative, or the host is no valid name
        raise _address_error(given) from error
    except OSError as error:
        raise _connection_error(given, error.strerror or str(error), "is it running? Check with `ray status`") from error


def _address_error(given: str) -> DefinitionError:
    return DefinitionError("this is not the address of a Ray cluster", got=given, expected="auto or HOST:PORT")


def _connection_error(given: str, got: str, hint: str) -> ResourceError:
    return ResourceError("the connection to the Ray cluster failed", where=given, got=got, hint=hint)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def short_text(error: Exception) -> str:
    """The text of an error in one line."""
    if isinstance(error, ExplainedError):
        return f"{error.what}{f': {error.got}' if error.got else ''}{f' ({error.where})' if error.where else ''}"
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


def loss_of(error: ray.exceptions.RayError, details: ActorReady | None) -> tuple[str, bool]:
    """Why a worker was lost, and whether its machine was lost with it."""
    text = str(error)
    where = "" if details is None else f" ({details.name})"
    if "node has died" in text or isinstance(error, ray.exceptions.NodeDiedError):
        return f"its machine was lost{where}", True
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return f"it was killed: its machine is out of memory{where}", False
    if isinstance(error, ray.exceptions.ActorUnavailableError):
        return f"it does not answer{where}", False
    if "worker process has died" in text:
        return f"its process died; out of memory?{where}", False
    return f"{text.strip().splitlines()[-1].strip()}{where}", False
