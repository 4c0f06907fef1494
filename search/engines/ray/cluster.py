"""The connection to a Ray cluster, or to a Ray of this run's own. Nothing of Ray is imported before there is one."""

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
from typing import Any

import ray
import ray._private.worker

from data_utils.errors import ExplainedError, ResourceError
from search.definition.definition import amount_text
from search.engines.job_run import stop_signals_blocked
from search.engines.ray.actor import Up
from search.errors import DefinitionError

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # it would upload the working directory, with all runs in it

_ANSWER_S = 10.0
"""What a cluster may take to accept a connection."""

_LOST_S = 30.0
"""A cluster that has not answered for so long is lost. Ray ends the process by itself after 60 s."""

_LOOK_S = 2.0
"""How often it is asked."""

_LABELS = (2, 49)
"""The first Ray whose actors may ask for machines by label."""

_LAST_PORT = 65535

_STORE_BYTES = 256 << 20
"""Object store of a Ray of this run's own: its workers read the search's own files, and little travels."""


@dataclass(frozen=True)
class Machine:
    """A machine of the cluster: what Ray calls a node."""

    id: str
    name: str
    """For people."""


class Cluster:
    """A Ray that this process is connected to. There is one at a time."""

    def __init__(self, address: str | None) -> None:
        """`address`: as `ray.init` takes it; None: what RAY_ADDRESS says, else a Ray that ends with this process.

        Raises:
            DefinitionError: it cannot be an address.
            ResourceError: there is no such cluster, or it does not answer.
        """
        from_outside = os.environ.get("RAY_ADDRESS")
        if not ray.is_initialized():
            if address or not from_outside:
                _connect(address or "local", f"--address {address}")
            else:
                _connect(from_outside, f"RAY_ADDRESS={from_outside}")
        with ray_errors():
            self.address = ray.get_runtime_context().gcs_address
            self._node = ray.get_runtime_context().get_node_id()
        self._looked = self._answered = time.monotonic()
        self.answers = True
        """Whether it did when it was last looked at. While it does not, nothing can be asked of it."""

        self.shunned: set[Machine] = set()
        """Where no more workers are asked for."""

    @property
    def has_gpus(self) -> bool:
        """Whether any of its machines has a GPU."""
        with ray_errors():
            return bool(_has().get("GPU", 0) > 0)

    def room(self, cpus: float, gpus: float) -> int:
        """How many workers fit on its machines that are not shunned, if nobody else works there."""
        found, shunned = 0.0, {machine.id for machine in self.shunned}
        for node in _nodes():
            if node["Alive"] and node["NodeID"] not in shunned:
                has = node["Resources"]
                by_gpus = math.floor(has.get("GPU", 0) / gpus + 1e-6) if gpus else math.inf
                found += min(math.floor(has.get("CPU", 0) / cpus + 1e-6), by_gpus)
        return int(found)

    def machine_of(self, actor: Any) -> Machine | None:
        """Where an actor is, or was when it died; None if nobody knows."""
        if not self.answers:
            return None
        about = ray._private.state.actors(actor._actor_id.hex())  # its public form asks the dashboard, which need not be there
        node_id = (about or {}).get("Address", {}).get("NodeID", "")
        return next((Machine(node_id, node["NodeManagerHostname"]) for node in _nodes() if node["NodeID"] == node_id), None)

    def text(self) -> str:
        """What its machines have, together."""
        has = _has()
        machines = sum(bool(node["Alive"]) for node in _nodes())
        amount = amount_text(has.get("CPU", 0), has.get("GPU", 0))
        return f"{amount} on {machines} machine{'' if machines == 1 else 's'}"

    def check(self, *, at_once: bool = False) -> None:
        """Looks whether it is still there: now and then, or `at_once`, when something of it was lost.

        Raises:
            ResourceError: it is lost.
        """
        now = time.monotonic()
        if now - self._looked < _LOOK_S and not at_once:
            return
        self._looked, self.answers = now, self._is_there()
        if self.answers:
            self._answered = now
        elif now - self._answered > _LOST_S:
            self._lost(f"no answer from {self.address} for {now - self._answered:.0f} s")
        if at_once and self.answers and not any(node["NodeID"] == self._node and node["Alive"] for node in _nodes()):
            self._lost("the machine of this run was taken out of the cluster")

    def _is_there(self) -> bool:
        host, _, port = self.address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=1.0).close()
        except OSError:
            return False
        return True

    def _lost(self, got: str) -> None:
        raise ResourceError(
            "the Ray cluster is lost",
            got=got,
            hint="all finished trials are kept; when a cluster is there again, the same command goes on",
        )

    def close(self) -> None:
        """Ends all that this run has there; and a Ray of its own."""
        ray.shutdown()


def _has() -> dict[str, float]:
    return ray.cluster_resources()  # type: ignore[no-untyped-call]


def _nodes() -> list[dict[str, Any]]:
    return ray.nodes()  # type: ignore[no-untyped-call]


def elsewhere(machines: Collection[Machine]) -> dict[str, Any]:
    """Options for an actor that is to be on none of these machines. Empty where this version of Ray has no such option."""
    if not machines or tuple(int(part) for part in ray.__version__.split(".")[:2]) < _LABELS:
        return {}
    return {"label_selector": {"ray.io/node-id": f"!in({','.join(sorted(machine.id for machine in machines))})"}}


@contextlib.contextmanager
def ray_errors() -> Iterator[None]:
    """Turns what Ray cannot do inside the block into a `ResourceError`."""
    try:
        yield
    except BrokenPipeError:  # the reader of our output has left: that is none of Ray's business
        raise
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise ResourceError(
            "the Ray cluster cannot be worked with",
            got=first_line(error),
            hint="all finished trials are kept; the same command goes on",
        ) from error


def first_line(error: BaseException) -> str:
    """The first line of what an error says, without a full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _connect(address: str, given: str) -> None:
    """Connects, and leaves screen, signals and statistics of this process as they were. `given`: how a person has named it."""
    if "://" in address:
        raise DefinitionError(
            "a search is a part of its cluster, and cannot be a Ray Client",
            got=given,
            expected="auto or HOST:PORT",
            hint="run it on a machine of the cluster",
        )
    _require_answer(address, given)
    logging.getLogger("ray").setLevel(logging.ERROR)
    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _STORE_BYTES} if address == "local" else {}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with stop_signals_blocked():  # Ray's processes never see what asks this run to stop
            ray.init(address=address, log_to_driver=False, configure_logging=False, **own)
            signal.signal(signal.SIGTERM, handler)
    except ValueError as error:
        raise _no_address(given) from error
    except (ray.exceptions.RayError, RuntimeError, OSError) as error:
        raise ResourceError(
            "there is no connection to the Ray cluster",
            where=given,
            got=first_line(error),
            hint="is it running, with the same versions of Ray and Python? `ray status` shows it",
        ) from error
    # Ray prints what befalls its processes, whoever else draws on the screen, and has no public switch for it.
    ray._private.worker._worker_logs_enabled = False


def _require_answer(address: str, given: str) -> None:
    """Ray itself waits for minutes for an address that nobody answers at."""
    host, _, port = address.rpartition(":")
    if not host:
        return
    try:
        if int(port) > _LAST_PORT:
            raise _no_address(given)  # some systems would take a part of the number
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()
    except (ValueError, OverflowError) as error:  # a port that is no number, or too small; a host that cannot be a name
        raise _no_address(given) from error
    except OSError as error:
        raise ResourceError(
            "there is no connection to the Ray cluster",
            where=given,
            got=error.strerror or str(error),
            hint="`ray status` shows whether it is running",
        ) from error


def _no_address(given: str) -> DefinitionError:
    return DefinitionError("this cannot be the address of a Ray cluster", got=given, expected="auto or HOST:PORT")


def _in_short(error: Exception) -> str:
    """What an error says, in one line."""
    if isinstance(error, ExplainedError):
        return f"{error.what}{f': {error.got}' if error.got else ''}{f' ({error.where})' if error.where else ''}"
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


def _how_it_ended(error: ray.exceptions.RayError, up: Up | None) -> tuple[str, bool]:
    """How a worker was lost, and whether its machine was lost with it."""
    text = str(error)
    where = "" if up is None else f" ({up.name})"
    if "node has died" in text or isinstance(error, ray.exceptions.NodeDiedError):
        return f"its machine was lost{where}", True
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return f"it was ended: its machine is out of memory{where}", False
    if isinstance(error, ray.exceptions.ActorUnavailableError):
        return f"it does not answer{where}", False
    if "worker process has died" in text:
        return f"its process died; out of memory?{where}", False
    return f"{text.strip().splitlines()[-1].strip()}{where}", False
