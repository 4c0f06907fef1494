"""What studies that are gone have left: folders under `--runs`, and trainings in the database. Nothing is removed by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import optuna

from search.storage.url import is_same_database, parse_url
from search.study.companion import study_of
from search.study.folder import MARKER, owning_storage, read_marker
from search.study.presence import all_studies
from search.study.study_id import id_in


def leftovers(storage: optuna.storages.BaseStorage, runs: Path, url: str) -> Iterator[str]:
    """Sentences about what belongs to no study of a database, and how to remove it. Folders of other databases do not count.

    Raises: same as `all_studies`.
    """
    studies, here = all_studies(storage), parse_url(url)
    ids = {id_in(one.user_attrs) for one in studies}
    for marker in sorted(runs.glob(f"*/{MARKER}")):
        owner, where = read_marker(marker.parent), owning_storage(marker.parent)
        if owner is None or where is None or owner.id in ids:
            continue
        if is_same_database(parse_url(where), here):
            yield (
                f"{marker.parent} holds the files of `{owner.study}`, which the database no longer has: "
                f"delete the folder if you do not need them"
            )
    for one in studies:
        searched = study_of(one)
        if searched is not None and searched[1] is not None and searched[1] not in ids:
            yield (
                f"`{one.study_name}` holds the trainings of a study that the database no longer has: "
                f"delete it in the dashboard if you do not need them"
            )
