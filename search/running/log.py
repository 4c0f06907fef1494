"""The log of a run: one JSON object per line for every event, in `logs/RUN.jsonl` of the study's folder.

Each line carries `time` (UTC) and `elapsed`, seconds since the run started by the monotonic clock.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import time
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from data_utils.errors import ExplainedError
from search.errors import ExitCode, ResourceError, exit_code_of, os_errors
from search.events import SCHEMA, Event, Listener, RunFailed, as_json


class RunLog:
    """A listener that writes events while it is open. An error that ends the run becomes the last line."""

    def __init__(self, folder: Path, run: str) -> None:
        self.path = folder / "logs" / f"{run}.jsonl"
        self._began = time.monotonic()
        self._stream: BinaryIO | None = None

    def __enter__(self) -> RunLog:
        with self._errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self.path.open("ab", buffering=0)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(ResourceError, OSError):  # the disk may be the reason why the run failed
            if isinstance(error, ExplainedError):
                self(RunFailed(error.render(), exit_code_of(error)))
            elif error is not None:
                self(RunFailed(f"{type(error).__name__}: {error}", ExitCode.BUG))
            if self._stream is not None:
                self._stream.close()

    def __call__(self, event: Event) -> None:
        """Writes one event with a single call."""
        if self._stream is None:
            return
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        line = {"schema": SCHEMA, "time": now, "elapsed": round(time.monotonic() - self._began, 4), **as_json(event)}
        with self._errors():
            self._stream.write((json.dumps(line, ensure_ascii=False, default=str) + "\n").encode())

    def before(self, listener: Listener) -> Listener:
        """A listener that writes each event to the log and then passes it on."""

        def both(event: Event) -> None:
            self(event)
            listener(event)

        return both

    def _errors(self) -> contextlib.AbstractContextManager[None]:
        hint = "is the disk full or read-only? The same command resumes the study"
        return os_errors("the run's log cannot be written", where=self.path, hint=hint)
