"""The dictionary of a data set: words and their class numbers."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from data_utils.errors import DataError
from data_utils.files import write_atomically
from data_utils.folder import check_plain_file, is_utf8, signer_files

DICTIONARY_NAME = "sign_to_prediction_index_map.json"


def read_words(folder: Path) -> tuple[str, ...]:
    """The words in the order of their class numbers.

    Raises:
        DataError: there is no dictionary, more than one, or it does not number its words 0 .. K-1.
    """
    if not folder.is_dir():
        signer_files(folder)  # raises the error for it
    found = sorted(p for p in folder.iterdir() if p.suffix == ".json" and not p.name.startswith("."))
    if not found:
        raise DataError(
            "the data folder has no dictionary of words",
            file=folder,
            expected=f'{DICTIONARY_NAME}, such as {{"hello": 0, "thanks": 1}}',
        )
    if len(found) > 1:
        raise DataError(
            "the data folder has more than one dictionary of words",
            file=folder,
            got=", ".join(p.name for p in found),
            expected="one .json file",
            hint="move the others elsewhere",
        )
    return parse_words(found[0])


def parse_words(path: Path) -> tuple[str, ...]:
    """The words of a dictionary, in the order of their class numbers.

    Raises:
        DataError: it cannot be read, or does not number its words 0 .. K-1.
    """

    def reject_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
        twice = sorted(word for word, times in Counter(word for word, _ in pairs).items() if times > 1)
        if twice:
            raise DataError("the dictionary lists a word twice", file=path, got=", ".join(twice), hint="keep one of them")
        return dict(pairs)

    check_plain_file(path)
    try:
        numbers = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=reject_duplicates)
    except (OSError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, not JSON, or a number of 5,000 digits
        raise DataError(
            "the dictionary is not valid JSON in UTF-8",
            file=path,
            got=str(error),
            expected='{"word": 0, "another": 1, ...}',
        ) from error
    if not isinstance(numbers, dict) or not numbers or not all(type(n) is int for n in numbers.values()):
        raise DataError(
            "the dictionary does not map words to class numbers", file=path, expected='{"word": 0, "another": 1, ...}'
        )
    if not all(is_utf8(word) for word in numbers):
        raise DataError("a word contains a lone surrogate (half a character)", file=path, expected="words in UTF-8")
    if sorted(numbers.values()) != list(range(len(numbers))):
        raise DataError(
            "the class numbers in the dictionary are not 0, 1, 2, ... with each used once",
            file=path,
            got=str(sorted(numbers.values()))[:120],
            expected=f"0 to {len(numbers) - 1}",
        )
    return tuple(sorted(numbers, key=lambda word: numbers[word]))


def odd_words(words: Sequence[str]) -> list[str]:
    """Empty words, and groups of words that differ only by Unicode form, case or spaces; a remark about each."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for number, word in enumerate(words):
        shown = f"class {number} is {word!r}" if word.strip() else f"class {number} is empty: {word!r}"
        groups["".join(unicodedata.normalize("NFKC", word).split()).casefold()].append(shown)
    return [", ".join(group) for text, group in groups.items() if len(group) > 1 or not text]


def write_words(folder: Path, words: Iterable[str]) -> None:
    """Writes the dictionary, with the words numbered in the given order."""
    write_atomically(folder / DICTIONARY_NAME, words_text(words))


def words_text(words: Iterable[str]) -> str:
    """The text of a dictionary, with the words numbered in the given order."""
    return json.dumps({word: number for number, word in enumerate(words)}, ensure_ascii=False, indent=1) + "\n"
