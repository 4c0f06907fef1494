"""The connection to a Ray cluster, or to a Ray of this run's own. Nothing of Ray is imported before there is one."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

from data_utils.errors import ResourceError
from search.engines.training import stops_blocked
from search.errors import DefinitionError
from search.resources import amount_text

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # it would upload the working directory, with all runs in it

import ray  # it reads its environment when it is imported
import ray._private.worker

_ANSWER_S = 10.0
"""What a cluster may take to accept a connection."""

_LOST_S = 30.0
"""A cluster that has not answered for so long is lost. Ray ends the process by itself after 60 s."""

_LOOK_S = 2.0
"""How often it is asked."""

_TELL_S = 5.0
"""How long fewer workers are up than were asked for, all that there is room for, before a person is told."""

_TELL_BUSY_S = 60.0
"""The same while there would be room for more: they are slow to start, or others work there."""

_STORE_BYTES = 256 << 20
"""Object store of a Ray of this run's own: its workers read the search's own files, and little travels."""


class Cluster:
    """A Ray that this process is connected to. There is one at a time."""

    def __init__(self, address: str | None) -> None:
        """`address`: as `ray.init` takes it; None: what RAY_ADDRESS says, else a Ray that ends with this process.

        Raises:
            DefinitionError: it cannot be an address.
            ResourceError: there is no such cluster, or it does not answer.
        """
        address = address or os.environ.get("RAY_ADDRESS") or "local"
        if not ray.is_initialized():
            _connect(address)
        self.address = ray.get_runtime_context().gcs_address
        self._node = ray.get_runtime_context().get_node_id()
        self._looked = self._answered = time.monotonic()
        self.answers = True
        """Whether it did when it was last looked at. While it does not, nothing can be asked of it."""

    @property
    def has_gpus(self) -> bool:
        """Whether any of its machines has a GPU."""
        return bool(_has().get("GPU", 0) > 0)

    def room(self, cpus: float, gpus: float) -> int:
        """How many workers fit on its machines, if nobody else works there."""
        found = 0.0
        for node in _nodes():
            if node["Alive"]:
                has = node["Resources"]
                by_gpus = math.floor(has.get("GPU", 0) / gpus + 1e-6) if gpus else math.inf
                found += min(math.floor(has.get("CPU", 0) / cpus + 1e-6), by_gpus)
        return int(found)

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


class Headcount:
    """How many of the workers that were asked for are up, and when that is worth telling."""

    def __init__(self, cluster: Cluster, wanted: int, cpus: float, gpus: float) -> None:
        """`cpus`, `gpus`: what each of them asks for."""
        self._cluster, self._wanted, self._cpus, self._gpus = cluster, wanted, cpus, gpus
        self._told = wanted
        self.changed()

    def changed(self) -> None:
        """A worker came up, or was lost."""
        self._changed = time.monotonic()
        self._next = self._changed + _TELL_S

    def news(self, up: int) -> str:
        """What a person should know, `up` of them being up; empty if nothing, or not yet."""
        now = time.monotonic()
        if up == self._told or now < self._next or not self._cluster.answers:
            return ""
        self._next = now + _TELL_S
        if up < min(self._wanted, self._cluster.room(self._cpus, self._gpus)) and now - self._changed < _TELL_BUSY_S:
            return ""
        self._told = up
        asks = amount_text(self._cpus, self._gpus)
        return f"{up} of {self._wanted} workers are up: each asks for {asks}, the cluster has {self._cluster.text()}"


@contextlib.contextmanager
def ray_errors() -> Iterator[None]:
    """Turns what Ray cannot do inside the block into a `ResourceError`."""
    try:
        yield
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise ResourceError(
            "the Ray cluster cannot be worked with",
            got=first_line(error),
            hint="all finished trials are kept; the same command goes on",
        ) from error


def first_line(error: BaseException) -> str:
    """The first line of what an error says, without a full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _connect(address: str) -> None:
    """Connects, and leaves screen, signals and statistics of this process as they were."""
    if "://" in address:
        raise DefinitionError(
            "a search is a part of its cluster, and cannot be a Ray Client",
            got=f"--address {address}",
            expected="auto or HOST:PORT",
            hint="run it on a machine of the cluster",
        )
    _require_answer(address)
    logging.getLogger("ray").setLevel(logging.ERROR)
    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _STORE_BYTES} if address == "local" else {}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with stops_blocked():  # Ray's processes never see what asks this run to stop
            ray.init(address=address, log_to_driver=False, configure_logging=False, **own)
            signal.signal(signal.SIGTERM, handler)
    except ValueError as error:
        raise DefinitionError(
            "this cannot be the address of a Ray cluster", got=address, expected="auto or HOST:PORT"
        ) from error
    except (ray.exceptions.RayError, RuntimeError, OSError) as error:
        raise ResourceError(
            "there is no connection to the Ray cluster",
            where=address,
            got=first_line(error),
            hint="is it running, with the same versions of Ray and Python? `ray status` shows it",
        ) from error
    # Ray prints what befalls its processes, whoever else draws on the screen, and has no public switch for it.
    ray._private.worker._worker_logs_enabled = False


def _require_answer(address: str) -> None:
    """Ray itself waits for minutes for an address that nobody answers at."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()
    except OSError as error:
        raise ResourceError(
            "there is no connection to the Ray cluster",
            where=address,
            got=error.strerror or str(error),
            hint="`ray status` shows whether it is running",
        ) from error
