"""Checks what a search needs: machine, packages, storage, study files and data."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from data_utils.errors import ExplainedError
from data_utils.wording import counted

if TYPE_CHECKING:
    from search.trial.gpus import Gpu

_PACKAGES = ("torch", "numpy", "h5py", "optuna", "optuna-dashboard", "pydantic", "typer", "rich", "safetensors", "psutil")
_LOW_DISK = 1 << 30  # 1 GiB: a study of thousands of trials and a demo set


@dataclass(frozen=True)
class Check:
    """One check and its result."""

    name: str
    verdict: Literal["ok", "note", "wrong"]
    text: str


def checks(*, storage: str, runs: Path, data: Path | None) -> Iterator[Check]:
    """Runs all checks, one after the other. Changes nothing, except that it compiles the kernel if no trial has done so yet."""
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    yield Check("python", "ok", f"{platform.python_version()} on {machine}")
    for name in _PACKAGES:
        yield _package(name)
    yield from _devices()
    yield _kernel()
    yield _disk(runs)
    yield _result("storage", partial(_storage, storage))
    yield from _leftovers(storage, runs)
    yield from _studies()
    if data is not None:
        yield from _data(data)


def _result(name: str, check: Callable[[], str]) -> Check:
    """The result of a check that returns a text or raises an error."""
    try:
        return Check(name, "ok", check())
    except ExplainedError as error:
        return Check(name, "wrong", error.render())


def _package(name: str) -> Check:
    try:
        return Check(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "wrong", "not installed")


def _devices() -> Iterator[Check]:
    """Each GPU, or a line that says why there is none."""
    if importlib.util.find_spec("torch") is None:
        yield Check("device", "wrong", "torch is not installed")
        return
    import torch

    from search.trial.gpus import find_gpus, names_gpus

    if torch.version.cuda:
        architectures = ", ".join(torch.cuda.get_arch_list())
        yield Check("cuda", "ok", f"PyTorch was built for CUDA {torch.version.cuda}, with code for {architectures}")
    for gpu in find_gpus("cuda"):
        if gpu.visible and gpu.problem:
            yield Check("device", "wrong", f"{_facts(gpu)}\nit does not work: {gpu.problem}\nhint: {gpu.remedy}")
        elif gpu.visible:
            yield Check("device", "ok", f"{_facts(gpu)}: works")
        else:
            driver = f"there is an NVIDIA driver {gpu.driver} here; " if gpu.driver else ""
            hint = f"\nhint: {driver}{gpu.remedy}" if driver or names_gpus() else ""
            fine = "" if names_gpus() else ", which is fine"
            yield Check("device", "note", f"no GPU: {gpu.problem}. Trials train on the CPU{fine}{hint}")


def _facts(gpu: Gpu) -> str:
    """Name, memory, architecture and driver of a GPU, as far as they are known."""
    memory = f"{gpu.free / (1 << 30):,.1f} of {gpu.memory / (1 << 30):,.1f} GiB free" if gpu.memory else ""
    driver = f"driver {gpu.driver}" if gpu.driver else "driver unknown"
    return ", ".join(filter(None, (gpu.title, memory, gpu.architecture, driver)))


def _kernel() -> Check:
    from model.kernel.library import COST, NoKernel, load_library

    try:
        library = load_library()
    except NoKernel as error:
        return Check("kernel", "note", f"none: {error}. Without it, {COST}")
    except ExplainedError as error:
        return Check("kernel", "wrong", error.render())
    return Check("kernel", "ok", f"{library.instructions}, {library.origin}")


def _disk(runs: Path) -> Check:
    place = next(folder for folder in (runs.resolve(), *runs.resolve().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if not os.access(place, os.W_OK):
        return Check("disk", "wrong", f"{place} is not writable")
    return Check("disk", "ok" if free > _LOW_DISK else "note", f"{free / (1 << 30):,.1f} GiB free at {place}")


def _storage(url: str) -> str:
    from search.storage.opening import has_studies
    from search.storage.read_only import open_read_only
    from search.storage.url import parse_url
    from search.study.presence import study_names

    place = parse_url(url)
    if not has_studies(url):
        return f"{place.name} {'has no studies' if place.is_server else 'does not exist'} yet; `run` creates it"

    names = study_names(open_read_only(url))
    return f"{place.name}, {len(names)} {'study' if len(names) == 1 else 'studies'}"


def _leftovers(url: str, runs: Path) -> Iterator[Check]:
    from search.storage.opening import has_studies
    from search.storage.read_only import open_read_only
    from search.study.leftovers import leftovers

    try:
        if has_studies(url):
            yield from (Check("left over", "note", text) for text in leftovers(open_read_only(url), runs, url))
    except ExplainedError:
        return  # the check of the storage has told it


def _studies() -> Iterator[Check]:
    from search.definition.study_file import known_studies

    for name in known_studies():
        yield _result(f"study {name}", partial(_study, name))


def _study(name: str) -> str:
    from search.definition.study_file import load_definition

    definition = load_definition(name)
    dimensions, trials = counted(len(definition.space), "dimension"), counted(definition.trials, "trial")
    return f"{dimensions}, {trials} ({definition.source})"


def _data(folder: Path) -> Iterator[Check]:
    from data_utils.checking.problems import find_problems
    from data_utils.prepared import open_data

    problems = find_problems(folder, workers=os.cpu_count() or 1)
    yield from (Check("data", "wrong", problem.render()) for problem in problems)
    if not problems:
        data = open_data(folder)
        clips = sum(len(labels) for labels in data.labels_of.values())
        yield Check("data", "ok", f"{folder}: {clips:,} clips, {len(data.words):,} words, {len(data.labels_of):,} signers")
