"""Where the clips of whom are in a folder of files: a pattern of paths such as `{word}/{signer}_{clip}.npy`.

{signer} {word} {clip} {session} {any}      some text without a slash
{frame}                                     a frame's number: each file holds one frame
{signer:[^_]+}                              what matches a regular expression, here a text without underscores
"""

from __future__ import annotations

import functools
import re
import shlex
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data_utils.errors import DataError
from data_utils.importing.scanning import Kind
from data_utils.wording import suggest

_FIELDS = ("signer", "word", "clip", "session", "frame", "any")
_FIELD = re.compile(r"\{([^{}:]*)(?::([^{}]*))?\}")


@dataclass(frozen=True)
class Layout:
    """A pattern of paths, compiled."""

    text: str
    patterns: tuple[tuple[re.Pattern[str], re.Pattern[str]], ...]
    """The first pair that matches a path tells its fields: one pattern with the shortest texts, one with the longest. In the
    first pair, a clip is a number: thank_you_1 is clip 1 of thank_you."""

    levels: int
    """Number of names in a path."""

    frames: bool
    """Whether each file holds one frame."""

    frames_fill_folders: bool
    """Whether all frames in a folder belong to one clip."""

    def fields(self, path: str) -> dict[str, str] | None:
        """The texts of a path's fields; None for another path. `any` has all texts of its fields, joined by two underscores.

        Raises:
            DataError: the path can be read in more than one way.
        """
        path = unicodedata.normalize("NFC", path)
        both = [[one.fullmatch(path) for one in pair] for pair in self.patterns if path.count("/") == self.levels - 1]
        shortest, longest = next(
            ([one.groupdict() for one in pair if one is not None] for pair in both if None not in pair), ({}, {})
        )
        if not shortest:
            return None
        found = shortest
        if differing := [name for name in shortest if shortest[name] != longest[name] and not name.startswith("any")]:
            raise self._two_ways(path, shortest, longest, differing)
        anything = [found.pop(name) for name in sorted(found) if name.startswith("any")]
        return {**found, "any": "__".join(anything)}

    def clip_key(self, fields: Mapping[str, str]) -> tuple[str, ...]:
        """What the frames of one clip have in common."""
        return tuple(sorted(f"{name}={text}" for name, text in fields.items() if name != "frame"))

    def has(self, field: str) -> bool:
        """Whether it has a field."""
        return field in (name for name, _ in _FIELD.findall(self.text))

    def _two_ways(self, path: str, one: Mapping[str, str], other: Mapping[str, str], differing: Sequence[str]) -> DataError:
        told = ["; ".join([path, *(f"{name} {way[name]}" for name in differing)]) for way in (one, other)]
        field = min(differing, key=lambda name: (name == "word", _FIELDS.index(name)))
        letter = next((char for char in "_- ." if char in one[field] + other[field]), "")
        narrow = f"{{{field}:[^{letter}]+}}" if letter else f"{{{field}:[a-z]+}}"
        which = f"without `{letter}`" if letter else "of letters only"
        return DataError(
            "--layout: a path can be read in two ways",
            got="\n".join(told),
            expected="one way for every path",
            hint=f"say what a field may hold, such as {{{field}:[0-9]+}} for numbers, "
            f"or --layout {shlex.quote(self.text.replace(f'{{{field}}}', narrow))} for every {field} {which}",
        )


@functools.cache
def parse_layout(text: str, kind: Kind) -> Layout:
    """Compiles a pattern of paths. Without an ending, all endings of the kind are meant.

    Raises:
        DataError: it has an unknown field or a wrong expression, or lacks the word.
    """
    example = f"for example --layout '{{word}}/{{signer}}_{{clip}}{kind.suffixes[0]}'"
    plain = unicodedata.normalize("NFC", text.strip().removeprefix("./"))
    names = [name for name, _ in _FIELD.findall(plain)]
    for name, inside in _FIELD.findall(plain):
        if "/" in inside or not _is_expression(inside):
            raise DataError("--layout: a field has a wrong regular expression", got=inside, hint="for example {signer:[^_]+}")
        if name not in _FIELDS:
            known = " ".join(f"{{{field}}}" for field in _FIELDS)
            raise DataError(f"--layout: there is no field `{{{name}}}`", got=text, expected=known, hint=suggest(name, _FIELDS))
    if "word" not in names:
        raise DataError("--layout does not tell the word", got=text, expected="a pattern with {word}", hint=example)
    if plain.startswith("/") or ".." in plain.split("/"):
        raise DataError("--layout is not a path within the source", got=text, hint=example)
    fill = {name for name, _ in _FIELD.findall(plain.rsplit("/", 1)[-1])} == {"frame"}
    texts = {"frame": "[^/]+" if fill else "[0-9]+"}
    patterns = tuple(
        (_pattern(plain, fixed, kind, "?"), _pattern(plain, fixed, kind, "")) for fixed in ({**texts, "clip": "[0-9]+"}, texts)
    )
    return Layout(plain, patterns, plain.count("/") + 1, "frame" in names, fill)


def _is_expression(text: str) -> bool:
    if "(?P" in text:  # the names of groups are fields
        return False
    try:
        re.compile(text)
    except re.error:
        return False
    return True


def _pattern(layout: str, texts: Mapping[str, str], kind: Kind, lazy: str) -> re.Pattern[str]:
    """The pattern of a layout.

    Args:
        layout: the layout.
        texts: patterns of fields that are not any text.
        kind: of files.
        lazy: `?` for the shortest texts of all fields, or empty.
    """
    expression = ""
    seen: list[str] = []
    for piece in re.split(r"(\{[^{}]*\})", layout):
        field = _FIELD.fullmatch(piece)
        name, inside = field.groups() if field else ("", None)
        if not name:
            expression += re.escape(piece)
        elif name == "any":
            expression += f"(?P<any{len(seen)}>{inside or '[^/]*' + lazy})"
        elif name in seen:
            expression += f"(?P={name})"
        else:
            expression += f"(?P<{name}>{inside or texts.get(name, '[^/]+') + lazy})"
        seen.append(name)
    if not layout.lower().endswith(kind.suffixes):
        expression += f"(?:{'|'.join(map(re.escape, kind.suffixes))})"
    return re.compile(expression, re.IGNORECASE)
