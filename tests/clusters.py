"""Ray clusters with several nodes on this machine, for tests."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from launch import command_of


@contextlib.contextmanager
def ray_cluster(*cpus: int) -> Iterator[Any]:
    """A cluster with one node per number of CPUs; the first is its head. Skips the test if Ray is not installed."""
    pytest.importorskip("ray", reason="Ray is not installed")
    from ray.cluster_utils import Cluster

    wanted = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus[0], "include_dashboard": False})
    try:
        for number in cpus[1:]:
            cluster.add_node(num_cpus=number)
        yield cluster
    finally:
        cluster.shutdown()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def actors(process: psutil.Process | None = None) -> list[psutil.Process]:
    """The worker processes of clusters that this process, or `process`, has started."""
    family = (process or psutil.Process()).children(recursive=True)
    return [child for child in family if command_of(child).startswith("ray::Actor")]
