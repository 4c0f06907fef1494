"""Whether another database file still holds a study."""

from __future__ import annotations

import contextlib
import sqlite3

from data_utils.errors import ExplainedError
from search.storage.looking import Look
from search.storage.url import StorageUrl


def may_hold_study(place: StorageUrl, key: str, text: str) -> bool:
    """Whether a study in a database file has a text in one of its attributes. True if the file exists but cannot be read."""
    if place.path is None or not place.path.is_file():
        return False
    if place.kind == "journal":
        try:
            return text.encode() in place.path.read_bytes()
        except OSError:
            return True
    query = "SELECT count(*) FROM study_user_attributes WHERE key = ? AND instr(value_json, ?)"
    try:
        with contextlib.closing(Look(place.path).connect()) as connection:
            return bool(connection.execute(query, (key, text)).fetchone()[0])
    except sqlite3.OperationalError as error:
        return "no such table" not in str(error)
    except sqlite3.DatabaseError:  # another kind of file
        return False
    except ExplainedError:
        return True
