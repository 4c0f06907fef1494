"""Child processes that need nothing of their parent's main module, leave Ctrl-C to it, and end when it ends."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


def map_in_processes(function: Callable[[Task], Result], tasks: Sequence[Task], workers: int) -> Iterator[Result]:
    """The results of a function, in the order of the tasks, computed in several processes.

    In this process if one is enough, if it may not have children, and if one was killed (for memory, or by a signal to all).
    The function is one of a module, not of a script. When the iterator is closed, tasks that have not begun are dropped.
    """
    done = 0
    if workers > 1 and len(tasks) > 1 and not multiprocessing.current_process().daemon:  # daemons cannot have children
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(min(workers, len(tasks)), mp_context=context, initializer=end_with_parent)
        try:
            with without_main_module(), without_ctrl_c():  # all processes are started here
                results = pool.map(function, tasks)
            for result in results:
                done += 1
                yield result
        except BrokenProcessPool:
            pass
        finally:
            pool.shutdown(cancel_futures=True)
    yield from map(function, tasks[done:])


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
