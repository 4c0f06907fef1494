"""Is everything here that a search needs? Machine, packages, storage, study files, data."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_utils.errors import ExplainedError

_PACKAGES = ("torch", "numpy", "h5py", "optuna", "optuna-dashboard", "pydantic", "typer", "rich", "safetensors", "psutil")
_LITTLE_DISK = 1 << 30  # 1 GiB: room for a study of thousands of trials and a demo set


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    verdict: Literal["ok", "note", "wrong"]
    text: str


def checks(*, storage: str, runs: Path, data: Path | None) -> Iterator[Check]:
    """Looks at everything, one after the other; nothing is changed."""
    yield Check(
        "python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    )
    for name in _PACKAGES:
        yield _package(name)
    yield _device()
    yield _disk(runs)
    yield _guarded("storage", lambda: _storage(storage))
    yield from _studies()
    if data is not None:
        yield from _data(data)


def _guarded(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, "ok", look())
    except ExplainedError as error:
        return Check(name, "wrong", error.render())


def _package(name: str) -> Check:
    try:
        return Check(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "wrong", "not installed")


def _device() -> Check:
    if importlib.util.find_spec("torch") is None:
        return Check("device", "wrong", "torch is not installed")
    import torch

    if torch.cuda.is_available():
        return Check("device", "ok", ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())))
    return Check("device", "note", "no CUDA: trials train on the CPU")


def _disk(runs: Path) -> Check:
    place = next(folder for folder in (runs.resolve(), *runs.resolve().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    text = f"{free / (1 << 30):,.1f} GiB free at {place}"
    if not os.access(place, os.W_OK):
        return Check("disk", "wrong", f"{place} cannot be written")
    return Check("disk", "ok" if free > _LITTLE_DISK else "note", text)


def _storage(url: str) -> str:
    from search.storage.opening import has_studies, open_storage
    from search.storage.url import parse_url

    place = parse_url(url)
    if not has_studies(url):
        return (
            f"{place.name} has no studies yet; `run` makes it"
            if place.is_server
            else f"{place.name} is not there yet; `run` makes it"
        )
    import optuna

    names = optuna.get_all_study_names(open_storage(url, create=False))
    return f"{place.name}, {len(names)} {'study' if len(names) == 1 else 'studies'}"


def _studies() -> Iterator[Check]:
    from search.definition.study_file import known_studies, load_definition

    for name in known_studies():

        def look(name: str = name) -> str:
            definition = load_definition(name)
            return f"{len(definition.space)} dimensions, {definition.trials} trials ({definition.source})"

        yield _guarded(f"study {name}", look)


def _data(folder: Path) -> Iterator[Check]:
    from data_utils.checking.problems import find_problems
    from data_utils.prepared import open_data

    faults = find_problems(folder)
    for fault in faults:
        yield Check("data", "wrong", fault.render())
    if not faults:
        data = open_data(folder)
        clips = sum(len(labels) for labels in data.labels_of.values())
        yield Check("data", "ok", f"{folder}: {clips:,} clips, {len(data.words):,} words, {len(data.labels_of):,} signers")
