"""Standard streams on which no write fails: closed, on a full disk, or left by their reader, such as `head`.

What cannot be written is dropped, so that it ends no search and is not taken for an error of another file. The first error on
stdout is kept (`output_error`): a command whose output was cut short ends with an exit code other than 0.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from data_utils.errors import ResourceError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_MISSING = OSError(errno.EBADF, "it is closed")


class _LossyFile(io.RawIOBase):
    """A file descriptor, or none, on which writing never fails. The first error is kept."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self.error: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return self._write(data)
        except OSError as error:
            self.error = self.error or error
            return memoryview(data).nbytes

    def _write(self, data: ReadableBuffer) -> int:
        if self._descriptor is None:
            raise _MISSING
        while True:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:  # another program made the pipe or terminal non-blocking
                select.select([], [self._descriptor], [])

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        if self._descriptor is None:
            raise io.UnsupportedOperation("fileno")
        return self._descriptor

    def isatty(self) -> bool:
        return self._descriptor is not None and os.isatty(self._descriptor)


def install_safe_streams() -> None:
    """Replaces stdout and stderr by streams on which no write fails, and opens the null device on missing descriptors."""
    _fill_descriptors()
    sys.stdout, sys.stderr = _safe(sys.stdout), _safe(sys.stderr)


@contextlib.contextmanager
def safe_streams() -> Iterator[None]:
    """Installs safe streams for the block. Errors of earlier output do not count."""
    before = sys.stdout, sys.stderr
    install_safe_streams()
    if (stdout := _lossy_file()) is not None:
        stdout.error = None
    try:
        yield
    finally:
        _flush(sys.stdout)
        sys.stdout, sys.stderr = before


def output_error() -> OSError | None:
    """Why stdout has lost output since `safe_streams` was entered; None if it has lost nothing."""
    _flush(sys.stdout)
    stdout = _lossy_file()
    return None if stdout is None else stdout.error


def lost_output() -> ResourceError | None:
    """The error to show if stdout has lost output. A reader that leaves early has seen what it wanted: that is no error."""
    error = output_error()
    if error is None or isinstance(error, BrokenPipeError):
        return None
    hint = "direct it elsewhere; the same command prints it again"
    return ResourceError("the output cannot be written", where="stdout", got=error.strerror, hint=hint)


@contextlib.contextmanager
def losing_is_no_error() -> Iterator[None]:
    """Output inside the block may be lost: it is kept elsewhere too."""
    before = output_error()
    yield
    if output_error() is not None and (stdout := _lossy_file()) is not None:
        stdout.error = before


def _lossy_file() -> _LossyFile | None:
    """The file of a safe stdout."""
    file = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return file if isinstance(file, _LossyFile) else None


def _safe(stream: Any) -> Any:
    """A safe stream in place of the one of a file, or of a missing one. Streams of other programs, such as notebooks, stay."""
    descriptor, encoding, line_buffering = None, "utf-8", True
    if stream is not None:
        with contextlib.suppress(ValueError):  # it was closed
            buffer = getattr(stream, "buffer", None)
            if not isinstance(getattr(buffer, "raw", buffer), io.FileIO):  # with `python -u` there is no buffer in between
                return stream
            descriptor, encoding = stream.fileno(), stream.encoding
            line_buffering = stream.line_buffering
            _flush(stream)
    # A character that the terminal cannot show must not end a run.
    return io.TextIOWrapper(
        io.BufferedWriter(_LossyFile(descriptor)), encoding, "backslashreplace", line_buffering=line_buffering
    )


def _flush(stream: Any) -> None:
    with contextlib.suppress(OSError, ValueError):
        stream.flush()


def _fill_descriptors() -> None:
    """Opens the null device on missing standard descriptors. Otherwise a database could get one, and output with it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
            os.set_inheritable(descriptor, True)
