"""Times as people write them."""

from __future__ import annotations

import re

from search.errors import DefinitionError


def seconds_of(text: str) -> float:
    """`90m`, `1h30m`, `45s` or plain seconds.

    Raises:
        DefinitionError: it is none of them.
    """
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    if not found or not any(found.groups()):
        raise DefinitionError("this is not a time", got=text[:80], expected="90m, 1h30m, 45s")
    hours, minutes, seconds = (float(group or 0) for group in found.groups())
    return hours * 3600 + minutes * 60 + seconds
