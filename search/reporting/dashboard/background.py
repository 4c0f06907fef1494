"""Fills the page of a study in the background, and again while a search or a confirmation adds to it."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import optuna

from data_utils.errors import ExplainedError
from search.errors import ResourceError
from search.storage.errors import database_errors
from search.storage.leases.files import locks_folder
from search.storage.url import parse_url
from search.study.companion import is_companion
from search.study.identity import is_complete, is_ours
from search.study.trials import FINISHED_STATES
from search.wording import format_duration

_LOOK_S = 3
"""Between two looks whether there is anything new."""

_LEAST_PAUSE_S = 10
_PAUSE_PER_WORK = 20
"""So many times as long as it took to fill the page it is left alone: a search that runs is not slowed."""

_REST_S = 3.0
"""What a filling that went wrong counts as."""

_PATIENCE_S = 2
"""How long an end waits for a write."""

_LOCK = "dashboard"
"""Its name does not end as those of runs do, which are counted."""

_POLITE = 10
Tell = Callable[[str], None]


class Filler:
    """Fills one study's page. Of several at once one does, and another goes on when it has ended."""

    def __init__(self, study: optuna.Study, storage: optuna.storages.BaseStorage, *, url: str, runs: Path, tell: Tell) -> None:
        """`tell` says a line: once what was filled, and once each thing that went wrong."""
        self._study, self._storage, self._url, self._runs, self._tell = study, storage, url, runs, tell
        path = parse_url(url).path
        self._folder = runs / study.study_name / ".locks" if path is None else locks_folder(path, study.study_name)
        self._lock = filelock.FileLock(self._folder / _LOCK, thread_local=False)
        self._seen: Any = None
        self._said: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="fills the page", daemon=True)

    def start(self) -> None:
        """Begins, and does not wait. A study of another program is shown as it is."""
        if self._is_fillable():
            self._thread.start()

    def end(self) -> None:
        """Ends soon; what is half done is left out."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(_PATIENCE_S)

    def once(self) -> None:
        """Fills the page now if there is anything new and nobody else does, and waits for it."""
        if self._is_fillable():
            try:
                self._look()
            finally:
                self._lock.release()

    def _is_fillable(self) -> bool:
        """Whether the study is a search of this tool."""
        return is_ours(self._study) and is_complete(self._study) and not is_companion(self._study.study_name)

    def _work(self) -> None:
        if sys.platform == "linux":  # where a thread has a priority of its own
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _POLITE)
        pause = 0.0
        while not self._over.wait(pause):
            took = self._look()
            pause = _LOOK_S if took is None else max(_LEAST_PAUSE_S, _PAUSE_PER_WORK * took)
        self._lock.release()

    def _look(self) -> float | None:
        """Fills the page if there is anything new, and says how long it took; None: there was nothing to do."""
        try:
            if not self._is_ours():
                self._say_once("another dashboard fills the page of this study; this one shows it")
                return None
            with database_errors(self._url):
                now = self._state()
            if now == self._seen:
                return None
            took, is_whole = self._fill()
        except Exception as error:
            self._complain(error)
            return _REST_S
        if not is_whole:  # once more, after a rest: the disk may have room then
            return max(took, _REST_S)
        self._seen = now
        return took

    def _is_ours(self) -> bool:
        if self._lock.is_locked:
            return True
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(blocking=False)
        except filelock.Timeout:
            return False
        return True

    def _state(self) -> Any:
        """What changes whenever there is something new to show."""
        failed = optuna.trial.TrialState.FAIL
        count = self._storage.get_n_trials(self._study._study_id, state=(*FINISHED_STATES, failed))
        return count, self._storage.get_study_user_attrs(self._study._study_id)

    def _fill(self) -> tuple[float, bool]:
        """How long it took, and whether nothing went wrong."""
        from search.reporting.dashboard.page import fill  # brings what draws

        started = time.monotonic()
        done = fill(self._study, self._storage, url=self._url, runs=self._runs, is_over=self._over.is_set)
        took = time.monotonic() - started
        for fault in done.faults:
            self._complain(fault)
        if not self._over.is_set() and not done.faults:
            counts = {"trial note": done.notes, "plot": done.plots, "artifact": done.artifacts}
            parts = ["note", *(f"{n:,} {what}{'' if n == 1 else 's'}" for what, n in counts.items() if n)]
            time_text = f"{took:.1f}s" if took < 10 else format_duration(took)
            self._say_once(f"filled: {', '.join(parts)} ({time_text})", key="filled")
        return took, not done.faults

    def _complain(self, error: Exception) -> None:
        """Says what went wrong, once; the page is served all the same."""
        try:
            with database_errors(self._url):
                raise error
        except ExplainedError as known:
            shown = known
        except OSError as known:
            shown = ResourceError(
                "the page of the study could not be filled",
                where=str(known.filename or self._runs),
                got=known.strerror,
                hint="free some space or give leave to write; the page is served as it is",
            )
        except Exception as known:
            shown = ResourceError(
                "a part of the study's page could not be filled",
                where=self._study.study_name,
                got=f"{type(known).__name__}: {known}",
                hint="the rest of the page is served; please report this",
            )
        self._say_once(shown.render())

    def _say_once(self, text: str, key: str = "") -> None:
        if (key or text) not in self._said:
            self._said.add(key or text)
            self._tell(text)
