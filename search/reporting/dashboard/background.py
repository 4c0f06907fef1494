"""Fills a study's page in the background, and updates it while a search or a confirmation adds to the study."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna

from data_utils.errors import ExplainedError
from data_utils.wording import counted, format_duration
from search.errors import ResourceError
from search.storage.errors import database_errors
from search.storage.leases.choice import observe
from search.study.companion import is_companion
from search.study.identity import is_complete, is_ours
from search.study.presence import all_studies
from search.study.trials import FINISHED_STATES

if TYPE_CHECKING:
    from search.reporting.dashboard.page import FillResult

_POLL_S = 3
"""Between two checks for changes."""

_MIN_PAUSE_S = 10
_PAUSE_FACTOR = 20
"""The pause after filling the page, as a multiple of the time it took: a running search must not be slowed down."""

_RETRY_S = 3.0
"""The time that a failed attempt counts as having taken, which sets the pause before the next one."""

_STOP_TIMEOUT_S = 2


class PageFiller:
    """Fills the page of one study."""

    def __init__(
        self,
        study: optuna.Study,
        storage: optuna.storages.BaseStorage,
        *,
        url: str,
        runs: Path,
        notify: Callable[[str], None],
    ) -> None:
        """`notify` gets a line when the page is filled for the first time, and one per distinct error."""
        self._study, self._storage, self._url, self._runs, self._notify = study, storage, url, runs, notify
        self._last_state: Any = None
        self._names = {study.study_name}
        """Of the study and of its confirmations."""

        self._num_runs = 0
        """How many runs worked on the study when it was last looked at."""

        self._notified: set[str] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="page filler", daemon=True)

    def start(self) -> None:
        """Starts the background thread. A study that this tool did not make is left as it is."""
        if self._is_fillable():
            self._thread.start()

    def stop(self) -> None:
        """Stops the thread soon; what is half done is left out."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_TIMEOUT_S)

    def fill_once(self) -> None:
        """Fills the page now if the study has changed, and returns when that is done."""
        if self._is_fillable():
            self._update()

    def _is_fillable(self) -> bool:
        """Whether the study is a search of this tool that can be read."""
        try:
            return is_ours(self._study) and is_complete(self._study) and not is_companion(self._study.study_name)
        except ExplainedError as error:
            self._notify_error(error)
            return False

    def _work(self) -> None:
        pause = 0.0
        while not self._wait(pause):
            took = self._update()
            pause = _POLL_S if took is None else max(_MIN_PAUSE_S, _PAUSE_FACTOR * took)

    def _wait(self, pause: float) -> bool:
        """Waits between two updates, less long if a search ends meanwhile. Whether to stop."""
        until = time.monotonic() + pause
        while (left := until - time.monotonic()) > 0 and not self._has_search_ended():
            if self._stopping.wait(min(left, _POLL_S)):
                return True
        return self._stopping.is_set()

    def _has_search_ended(self) -> bool:
        """Whether the last run on the study has ended since the last call. Then a full page slows nothing down."""
        before = self._num_runs
        with contextlib.suppress(Exception):  # the database cannot be reached now: the next update reports it
            self._num_runs = sum(observe(self._url, name).num_runs() for name in self._names)
        return before > 0 and self._num_runs == 0

    def _update(self) -> float | None:
        """Fills the page if the study has changed. Returns the seconds it took; None if nothing has changed."""
        try:
            with database_errors(self._url):
                state = self._state()
            if state == self._last_state:
                return None
            started = time.monotonic()
            result = self._fill()
        except Exception as error:
            self._notify_error(error)
            return _RETRY_S
        took = time.monotonic() - started
        for failure in result.errors:
            self._notify_error(failure)
        if result.errors:  # tried again after a pause, when the disk may have room
            return max(took, _RETRY_S)
        self._last_state = state
        if not self._stopping.is_set():
            self._notify_filled(result, took)
        return took

    def _state(self) -> Any:
        """A value that changes whenever there is something new to show."""
        ended = (*FINISHED_STATES, optuna.trial.TrialState.FAIL)
        own, name = self._study._study_id, self._study.study_name
        confirmations = {
            one.study_name: one._study_id
            for one in all_studies(self._storage)
            if is_companion(one.study_name) and one.study_name.startswith(f"{name}/")
        }
        self._names = {name, *confirmations}
        counts = [(one, self._storage.get_n_trials(one, state=ended)) for one in (own, *confirmations.values())]
        return counts, self._storage.get_study_user_attrs(own)

    def _fill(self) -> FillResult:
        from search.reporting.dashboard.page import fill_page  # imports Plotly

        return fill_page(self._study, self._storage, url=self._url, runs=self._runs, should_stop=self._stopping.is_set)

    def _notify_filled(self, result: FillResult, took: float) -> None:
        counts = {"trial note": result.notes, "plot": result.plots, "artifact": result.artifacts}
        parts = ["note", *(counted(count, noun) for noun, count in counts.items() if count)]
        time_text = f"{took:.1f}s" if took < 10 else format_duration(took)
        self._notify_once(f"filled: {', '.join(parts)} ({time_text})", key="filled")

    def _notify_error(self, error: Exception) -> None:
        """Reports an error once; the page is served all the same."""
        try:
            with database_errors(self._url):
                raise error
        except ExplainedError as known:
            explained = known
        except OSError as known:
            explained = ResourceError(
                "the page of the study could not be filled",
                where=str(known.filename or self._runs),
                got=known.strerror,
                hint="free some disk space or make the folder writable; the page is served as it is",
            )
        except Exception as known:
            explained = ResourceError(
                "a part of the study's page could not be filled",
                where=self._study.study_name,
                got=f"{type(known).__name__}: {known}",
                hint="the rest of the page is served; please report this",
            )
        self._notify_once(explained.render())

    def _notify_once(self, text: str, key: str = "") -> None:
        if (key or text) not in self._notified:
            self._notified.add(key or text)
            self._notify(text)
