"""What each worker asks of machines that share out their processors and GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from annotated_types import Ge, Le, Unit

RESOURCES = "resources"
"""Where a study keeps what its last run asked for; a confirmation asks for the same."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What the engine `ray` reserves for each worker. That changes how many train at once, and no result."""

    cpus: Annotated[float, Ge(0.01), Unit("processors")] = 1.0
    """A worker computes with one thread. Less than 1: several share a processor."""

    gpus: Annotated[float, Ge(0.01), Le(1), Unit("GPUs")] = 1.0
    """Where trials train on GPUs, else none. Half a one: two workers share it, and must fit into its memory together."""

    def stored(self) -> dict[str, float]:
        """As the study keeps it."""
        return asdict(self)


def stored_resources(attributes: Mapping[str, Any]) -> Resources:
    """What the study of these attributes has asked for; the default for one of an earlier version."""
    return Resources(**attributes.get(RESOURCES, {}))


def amount_text(cpus: float, gpus: float) -> str:
    """`1 CPU and 0.5 GPU`."""
    return f"{cpus:g} CPU{'' if cpus <= 1 else 's'} and {gpus:g} GPU{'' if 0 < gpus <= 1 else 's'}"
