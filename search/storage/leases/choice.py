"""Which kind of lease a storage needs."""

from __future__ import annotations

from search.storage.leases.files import FileLease, FileObserver
from search.storage.leases.lease import Lease, Observer
from search.storage.url import parse_url

LEASE_S = 60.0
"""How long a run keeps its trials without a word to a database server, unless it asked for another time."""


def observe(url: str, study: str) -> Observer:
    """Somebody who looks at the runs of a study in a storage."""
    place = parse_url(url)
    if place.path is not None:
        return FileObserver(place.path, study)
    from search.storage.leases.rows import RowObserver

    return RowObserver.of(place, study)


def lease_of(url: str, study: str, *, lease_s: float = LEASE_S) -> Lease:
    """A place among the runs of a study in a storage. `lease_s` is for database servers: a run that says nothing for so many
    seconds may lose its trials to another."""
    place = parse_url(url)
    if place.path is not None:
        return FileLease(place.path, study)
    from search.storage.leases.rows import RowLease

    return RowLease(place, study, lease_s)
