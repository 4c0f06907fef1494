"""Notices about how many of the requested workers are ready."""

from __future__ import annotations

import time

from search.definition.definition import amount_text
from search.engines.ray.cluster import Cluster

_DELAY_S = 5.0
"""How long fewer workers than requested are ready before a notice says so, if the cluster has no room for more."""

_STARTING_DELAY_S = 60.0
"""The same if it has room for more: they are slow to start, or other programs use the room."""


class WorkerCount:
    """Decides when the number of ready workers is worth a notice."""

    def __init__(self, cluster: Cluster, requested: int, cpus: float, gpus: float) -> None:
        """`cpus`, `gpus`: what each worker requests."""
        self._cluster, self._requested, self._cpus, self._gpus = cluster, requested, cpus, gpus
        self._reported = requested
        self.restart_timer()

    def restart_timer(self) -> None:
        """Call this when a worker has become ready or was lost."""
        self._changed_at = time.monotonic()
        self._next_check = self._changed_at + _DELAY_S

    def notice(self, ready: int) -> str:
        """The notice for this number of ready workers; empty if it is not news, or too early."""
        now = time.monotonic()
        if ready == self._reported or now < self._next_check or not self._cluster.is_reachable:
            return ""
        self._next_check = now + _DELAY_S
        capacity = self._cluster.capacity(self._cpus, self._gpus)
        if ready < min(self._requested, capacity) and now - self._changed_at < _STARTING_DELAY_S:
            return ""
        self._reported = ready
        amount = amount_text(self._cpus, self._gpus)
        return f"{ready} of {self._requested} workers are ready: each needs {amount}, the cluster has {self._cluster.text()}"
