"""Child processes that end when their parent process ends, however that happens."""

from __future__ import annotations

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """Makes this process, which `multiprocessing` started, exit as soon as its parent has ended."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "this process was not started by multiprocessing"
    parent.join()
    os._exit(1)
