"""Storage URLs: what they mean, and how to display them without a password."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from search import DEFAULT_STORAGE, HIDDEN
from search.errors import DefinitionError

Kind = Literal["sqlite", "journal", "postgresql", "mysql"]

SQLITE = "sqlite:///"
_JOURNAL = "journal:///"
_JOURNAL_SUFFIXES = (".journal", ".log")
_SERVERS: dict[str, tuple[Kind, str]] = {
    "postgresql": ("postgresql", "postgresql+psycopg"),
    "postgresql+psycopg": ("postgresql", "postgresql+psycopg"),
    "mysql": ("mysql", "mysql+pymysql"),
    "mysql+pymysql": ("mysql", "mysql+pymysql"),
    "mariadb": ("mysql", "mysql+pymysql"),
    "mariadb+pymysql": ("mysql", "mysql+pymysql"),
}
"""Kind of server, and SQLAlchemy's name of its driver, by the URL's scheme."""

_SERVER = re.compile(r"(?P<scheme>[a-z0-9+]+)://(?:(?P<user>[^:@/]*)(?::(?P<password>.*))?@)?(?P<rest>[^@]*)")
_SECRET = re.compile(r"(?i)([?&](?:password|passwd|sslpassword|pass)=)([^&]*)")


@dataclass(frozen=True)
class StorageUrl:
    """A parsed storage URL."""

    url: str = field(repr=False)
    """As SQLAlchemy takes it, with its password."""

    kind: Kind
    redacted: str
    """The URL without its password, for display, logs and records."""

    path: Path | None = None
    """The file of an SQLite database or a journal; None for a server."""

    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def is_server(self) -> bool:
        """Whether it is a database server, which several machines can reach and which may be unreachable for a while."""
        return self.path is None

    @property
    def name(self) -> str:
        """Its name in errors: the path of a file, the URL of a server."""
        return self.redacted if self.path is None else str(self.path)

    def redact(self, text: str) -> str:
        """The text without the password, which a driver may have quoted."""
        for secret in self.secrets:
            text = text.replace(secret, HIDDEN)
        return text


def parse_url(url: str) -> StorageUrl:
    """Parses a storage URL. A journal may also be given by its path alone, if that ends in `.journal` or `.log`.

    Raises:
        DefinitionError: this kind of storage is not supported, or the URL is malformed.
    """
    if url.startswith(SQLITE) and url not in (SQLITE, f"{SQLITE}:memory:") and "?" not in url:
        return StorageUrl(url, "sqlite", url, Path(url.removeprefix(SQLITE)))
    journal = url.removeprefix(_JOURNAL)
    if journal and (journal != url or ("://" not in url and url.endswith(_JOURNAL_SUFFIXES))):
        return StorageUrl(f"{_JOURNAL}{journal}", "journal", f"{_JOURNAL}{journal}", Path(journal))
    found = _SERVER.fullmatch(url)
    if found is not None and found["scheme"] in _SERVERS and "/" in found["rest"].strip("/"):
        kind, scheme = _SERVERS[found["scheme"]]
        quoted = {found["password"], *(secret for _, secret in _SECRET.findall(url))} - {None, ""}
        secrets = {*quoted, *map(unquote, quoted)}
        _, _, rest = url.partition("://")
        _require_valid(url)
        rest = rest.replace("{", "%7B").replace("}", "%7D")  # Optuna formats URLs with str.format
        return StorageUrl(f"{scheme}://{rest}", kind, redact_url(url), secrets=tuple(sorted(secrets, key=len, reverse=True)))
    raise DefinitionError(
        "this storage is not supported",
        got=redact_url(url),
        expected=f"{SQLITE}PATH (such as {DEFAULT_STORAGE}), postgresql://USER:PASSWORD@HOST/DATABASE, "
        f"mysql://USER:PASSWORD@HOST/DATABASE or {_JOURNAL}PATH",
    )


def _require_valid(url: str) -> None:
    from sqlalchemy import make_url  # slow to import, and needed for servers only
    from sqlalchemy.exc import ArgumentError

    try:
        make_url(url)
    except (ArgumentError, ValueError) as error:
        raise DefinitionError("this storage URL is malformed", got=redact_url(url)) from error


def redact_url(url: str) -> str:
    """A URL of any kind without its password."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    login, at, host = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    login = f"{user}{colon}{HIDDEN}" if colon else user
    return _SECRET.sub(rf"\g<1>{HIDDEN}", f"{scheme}://{login}{at}{host}")


def sqlite_path(url: str) -> Path:
    """The file of an SQLite URL.

    Raises:
        DefinitionError: the URL is of another kind.
    """
    parsed = parse_url(url)
    if parsed.kind != "sqlite" or parsed.path is None:
        raise DefinitionError("this storage is not an SQLite file", got=parsed.redacted, expected=f"{SQLITE}PATH")
    return parsed.path
