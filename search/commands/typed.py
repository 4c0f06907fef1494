"""The command that goes on, as it would be typed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from search.storage.url import shown_url
from search.wording import storage_arg


def resume_command(arguments: Sequence[str], target: int) -> str:
    """The command that goes on: the same words, with `--more` turned into the target that it meant."""
    words: list[str] = []
    skip = False
    for word in arguments:
        if skip or word.startswith("--more="):
            skip = False
        elif word == "--more":
            skip = True
        else:
            words.append(word)
    if len(words) < len(arguments):
        words += ["--trials", str(target)]
    return typed_again(words)


def typed_again(arguments: Sequence[str]) -> str:
    """The command with these words for a shell. Where one of them is an URL with a password, its variable stands instead."""
    return " ".join(_typed(word) for word in ["python", "-m", "search", *arguments])


def _typed(word: str) -> str:
    option, equals, url = word.partition("=") if word.startswith("--storage=") else ("", "", word)
    return f"{option}{equals}{storage_arg(shown_url(url))}" if shown_url(url) != url else shlex.quote(word)
