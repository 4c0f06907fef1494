"""Chooses the kind of lease that a storage needs."""

from __future__ import annotations

from search.storage.leases.files import FileLease, FileObserver
from search.storage.leases.lease import Lease, Observer
from search.storage.url import parse_url

LEASE_S = 60.0
"""Default time that a run keeps its trials without contact to a database server."""


def observe(url: str, study: str) -> Observer:
    """An observer of the runs on a study."""
    parsed = parse_url(url)
    if parsed.path is not None:
        return FileObserver(parsed.path, study)
    from search.storage.leases.rows import RowObserver

    return RowObserver.connect(parsed, study)


def lease_of(url: str, study: str, *, lease_s: float = LEASE_S) -> Lease:
    """A new run's lease on a study.

    `lease_s`: for database servers, seconds without contact after which another run may take this run's trials.
    """
    parsed = parse_url(url)
    if parsed.path is not None:
        return FileLease(parsed.path, study)
    from search.storage.leases.rows import RowLease

    return RowLease(parsed, study, lease_s)
