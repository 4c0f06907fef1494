"""Reads the clips of a data set in several processes and keeps the facts of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from data_utils.checking.examples import Examples
from data_utils.checking.facts import ClipFacts, inspect_clip
from data_utils.errors import DataError
from data_utils.folder import SignerFile
from data_utils.hdf5 import list_clips, read_clips_and_faults
from data_utils.processes import map_in_processes

_CLIPS_PER_TASK = 64  # about 0.3 seconds: progress is shown, and Ctrl-C answered, as often
_CLIPS_PER_PROCESS = 300  # starting a process costs about a second
_SOUGHT = 4  # clips of a task whose order of parts is sought, which takes 5 times as long as the rest

Progress = Callable[[int, int], None]
"""Receives the number of clips read and their total. An exception that it raises stops the reading."""


def no_progress(done: int, total: int) -> None:
    """Shows nothing."""


@dataclass
class Reading:
    """What was read."""

    clips: list[ClipFacts] = field(default_factory=list)
    faults: list[DataError] = field(default_factory=list)
    examples: Examples | None = None
    """An example of each word, if wanted."""


@dataclass(frozen=True)
class _Task:
    file: SignerFile
    names: frozenset[str] | None
    """Clips of the file; None: all, if they cannot be listed."""

    num_words: int
    with_examples: bool


def read_files(
    files: Sequence[SignerFile],
    num_words: int,
    *,
    workers: int,
    progress: Progress = no_progress,
    examples: Examples | None = None,
) -> Reading:
    """Reads every clip of some files, in the order of files and clips. `examples` receives an example of each word."""
    names_of = [list_clips(file.path) for file in files]
    tasks = [
        _Task(file, frozenset(names[first : first + _CLIPS_PER_TASK]) or None, num_words, examples is not None)
        for file, names in zip(files, names_of, strict=True)
        for first in range(0, max(len(names), 1), _CLIPS_PER_TASK)
    ]
    total = sum(map(len, names_of))
    reading = Reading(examples=examples)
    for one in map_in_processes(_read, tasks, min(workers, total // _CLIPS_PER_PROCESS)):
        reading.clips += one.clips
        reading.faults += one.faults
        if examples is not None and one.examples is not None:
            examples.merge(one.examples)
        progress(len(reading.clips), total)
    return reading


def _read(task: _Task) -> Reading:
    reading = Reading(examples=Examples() if task.with_examples else None)
    sought = 0
    for result in read_clips_and_faults(task.file.path, task.num_words, task.names):
        if isinstance(result, DataError):
            reading.faults.append(result)
            continue
        facts = inspect_clip(task.file, result, seek_order=sought < _SOUGHT)
        sought += facts.misfit
        reading.clips.append(facts)
        if reading.examples is not None:
            reading.examples.add(facts, result)
    return reading
