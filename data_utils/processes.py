"""Child processes that need nothing of their parent's main module, leave Ctrl-C to it, and end when it ends."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Iterator


@contextlib.contextmanager
def without_main_module() -> Iterator[None]:
    """Processes spawned in the block do not import this process's main module, as `multiprocessing` makes them.

    They do not need it. A script without `if __name__ == "__main__"` would start its search again in each of them, and the
    main module of an interactive session, or of a script from stdin, cannot be imported.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextlib.contextmanager
def without_ctrl_c() -> Iterator[None]:
    """Processes spawned in the block do not receive Ctrl-C, which a terminal sends to all of them. This one handles it."""
    if sys.platform == "win32":  # which has no signal masks
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """Makes this process, which `multiprocessing` started, exit as soon as its parent has ended."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "this process was not started by multiprocessing"
    parent.join()
    os._exit(1)
