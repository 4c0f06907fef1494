"""What a shell offers when Tab is pressed. Imports nothing heavy: the shell waits."""

from __future__ import annotations

import contextlib
from pathlib import Path

import typer


def stored_studies(context: typer.Context) -> list[str]:
    """The names of the studies in an SQLite storage; none for a server, which may not answer."""
    from search.storage.looking import Look
    from search.storage.url import parse_url

    with contextlib.suppress(Exception):  # the shell shows no errors
        path = parse_url(str(context.params["storage"])).path
        if path is not None and path.is_file():
            with contextlib.closing(Look(path).connect()) as database:
                names = [name for (name,) in database.execute("SELECT study_name FROM studies ORDER BY study_name")]
            return [name for name in names if "/" not in name]  # others belong to a study
    return []


def runnable_studies() -> list[str]:
    """Study files in the working directory, and the names of known studies."""
    from search.definition.study_file import known_names

    with contextlib.suppress(OSError):
        return [*sorted(str(path) for path in Path().glob("*.y*ml")), *known_names()]
    return []
