"""How many of the workers that were asked for are up."""

from __future__ import annotations

import time

from search.definition.definition import amount_text
from search.engines.ray.cluster import Cluster

_TELL_S = 5.0
"""How long fewer workers are up than were asked for, all that there is room for, before a person is told."""

_TELL_BUSY_S = 60.0
"""The same while there would be room for more: they are slow to start, or others work there."""


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
