"""Makes batches in a thread while a GPU trains."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

_AHEAD = 4
"""Items made ahead: enough to smooth out batches that take longer, few enough to need no memory to speak of."""


@dataclass(frozen=True)
class _End:
    """The last thing that the thread says: that there are no more items, or why."""

    error: BaseException | None = None


def made_ahead(items: Iterable[T], ahead: int = _AHEAD) -> Iterator[T]:
    """The same items in the same order, made in a thread of their own, up to `ahead` before they are needed.

    Raises what making them raises, in its place among the items. The thread has ended when the iterator is exhausted, closed
    or dropped: nothing that makes the items is then in use.
    """
    ready: queue.SimpleQueue[T | _End] = queue.SimpleQueue()
    room, stopped = threading.Semaphore(ahead), threading.Event()

    def make() -> None:
        source = iter(items)
        try:
            while room.acquire() and not stopped.is_set():
                ready.put(next(source))
        except StopIteration:
            ready.put(_End())
        except BaseException as error:
            ready.put(_End(error))

    thread = threading.Thread(target=make, name="batches", daemon=True)
    thread.start()
    try:
        while not isinstance(item := ready.get(), _End):
            room.release()
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        room.release()
        thread.join()
