"""What studies that are gone have left: folders under `--runs`, and trainings in the database. Nothing is removed by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import optuna

from search.storage.url import is_same_file, parse_url
from search.study.checked import all_studies
from search.study.companion import CONFIRMED_STUDY, is_companion
from search.study.folder import MARKER, owning_storage, read_marker
from search.study.study_id import ID


def leftovers(storage: optuna.storages.BaseStorage, runs: Path, url: str) -> Iterator[str]:
    """Sentences about what belongs to no study of a database, and how to remove it. Folders of other databases do not count.

    Raises: same as `all_studies`.
    """
    studies, here = all_studies(storage), parse_url(url)
    ids = {_text_of(one.user_attrs.get(ID)) for one in studies}
    for marker in sorted(runs.glob(f"*/{MARKER}")):
        owner, where = read_marker(marker.parent), owning_storage(marker.parent)
        if owner is None or where is None or owner.id in ids:
            continue
        there = parse_url(where)
        if there.redacted == here.redacted or (there.path and here.path and is_same_file(there.path, here.path)):
            yield (
                f"{marker.parent} holds the files of `{owner.study}`, which the database no longer has: "
                f"delete the folder if you do not need them"
            )
    for one in studies:
        link = one.user_attrs.get(CONFIRMED_STUDY)
        if is_companion(one.study_name) and link is not None and _text_of(link) not in ids:
            yield (
                f"`{one.study_name}` holds the trainings of a study that the database no longer has: "
                f"delete it in the dashboard if you do not need them"
            )


def _text_of(stored: object) -> str | None:
    """The id in an attribute; None if it cannot be read."""
    found = stored.get("id") if isinstance(stored, dict) else None
    return found if isinstance(found, str) else None
