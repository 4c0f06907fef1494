"""Helper processes that do not outlive the process that started them, however that one ends."""

from __future__ import annotations

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """From now on this process, which `multiprocessing` started, ends at once when its parent is gone."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "this process was not started by multiprocessing"
    parent.join()
    os._exit(1)
