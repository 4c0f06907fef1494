"""A journal file that notices when it is removed or replaced."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend

from search.storage.sqlite import file_guard, replaced_error


class Journal(JournalFileBackend):
    """Optuna's journal in a file. Optuna itself would go on in the middle of another file."""

    def __init__(self, path: Path) -> None:
        super().__init__(os.path.realpath(path))  # so that all who write it take the same lock
        self._path = path
        self._check_file = file_guard(path)

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Same as Optuna's.

        Raises:
            ResourceError: the file was removed, replaced or cut.
        """
        self._check_file()
        if self._path.stat().st_size < self._log_number_offset.get(log_number_from, 0):
            raise replaced_error(self._path)
        return super().read_logs(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Same as Optuna's.

        Raises:
            ResourceError: the file was removed or replaced.
        """
        self._check_file()
        super().append_logs(logs)
