"""A progress bar of a search or a confirmation for notebooks and scripts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from tqdm.auto import tqdm

from search.events import DataPrepared, EpochFinished, Event, Listener, Notice, RunStarted, TrialFinished
from search.wording import format_value


class ProgressBar:
    """A bar of finished trials: in a notebook a widget if ipywidgets is installed, otherwise text on stderr. A listener."""

    def __init__(self) -> None:
        self._bar = tqdm(unit="trial", dynamic_ncols=True)
        self._shown_at = 0.0

    def __call__(self, event: Event) -> None:
        """Shows an event."""
        match event:
            case RunStarted():
                self._bar.reset(total=event.target)
                self._bar.update(event.finished)
                if event.caution:
                    self._bar.write(event.caution)
                if event.best is not None:
                    self._show_best(event.best.value, event.best.trial)
            case Notice():
                self._bar.write(event.text)
            case DataPrepared():
                self._show(f"preparing the data: {event.done:,} of {event.total:,} clips")
            case EpochFinished():
                self._show(f"trial {event.trial}: epoch {event.step}, val_loss {event.record.val_loss:.4f}")
            case TrialFinished():
                self._bar.total = event.target
                self._bar.update(event.finished - self._bar.n)
                if event.is_best and event.value is not None:
                    self._show_best(event.value, event.trial)

    def close(self) -> None:
        """Leaves the bar as it is."""
        self._bar.close()

    def _show(self, text: str) -> None:
        """Shows what is going on; more often than five times a second is too fast to read."""
        self._bar.set_postfix_str(text, refresh=False)
        if time.monotonic() - self._shown_at > 0.2:
            self._shown_at = time.monotonic()
            self._bar.refresh()

    def _show_best(self, value: float, trial: int) -> None:
        self._bar.set_description(f"best {format_value(value)} (trial {trial})")


@contextlib.contextmanager
def watched(callback: Listener | None, progress: bool) -> Iterator[Listener]:
    """A listener that passes events on to the callback and, if wanted, to a progress bar."""
    bar = ProgressBar() if progress else None

    def emit(event: Event) -> None:
        for listener in (bar, callback):
            if listener is not None:
                listener(event)

    try:
        yield emit
    finally:
        if bar is not None:
            bar.close()
