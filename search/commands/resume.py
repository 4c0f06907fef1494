"""The command line that resumes a stopped run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from search.storage.url import redact_url
from search.wording import storage_arg


def resume_command(arguments: Sequence[str], target: int | None = None) -> str:
    """The given command again, quoted for a shell; `--more N` becomes `--trials` with the target that it meant.

    A storage URL with a password is replaced by its environment variable.
    """
    pairs = zip(["", *arguments], arguments, strict=False)
    words = [word for before, word in pairs if "--more" not in (before, word) and not word.startswith("--more=")]
    if len(words) < len(arguments):
        words += ["--trials", str(target)]
    return " ".join(_quoted(word) for word in ["islr-search", *words])


def _quoted(word: str) -> str:
    option, equals, url = word.partition("=") if word.startswith("--storage=") else ("", "", word)
    return f"{option}{equals}{storage_arg(redact_url(url))}" if redact_url(url) != url else shlex.quote(word)
