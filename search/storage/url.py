"""What a storage URL means, and how it may be shown."""

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
_JOURNAL_ENDS = (".journal", ".log")
_DRIVERS: dict[str, tuple[Kind, str]] = {
    "postgresql": ("postgresql", "postgresql+psycopg"),
    "postgresql+psycopg": ("postgresql", "postgresql+psycopg"),
    "mysql": ("mysql", "mysql+pymysql"),
    "mysql+pymysql": ("mysql", "mysql+pymysql"),
    "mariadb": ("mysql", "mysql+pymysql"),
    "mariadb+pymysql": ("mysql", "mysql+pymysql"),
}
_SERVER = re.compile(r"(?P<scheme>[a-z0-9+]+)://(?:(?P<user>[^:@/]*)(?::(?P<password>.*))?@)?(?P<rest>[^@]*)")
_SECRET = re.compile(r"(?i)([?&](?:password|passwd|sslpassword|pass)=)([^&]*)")


@dataclass(frozen=True)
class StorageUrl:
    """A storage, by its URL."""

    url: str = field(repr=False)
    """As SQLAlchemy takes it, with its password."""

    kind: Kind
    shown: str
    """The URL without its password: for people, logs and notes."""

    path: Path | None = None
    """The file of SQLite, or of a journal."""

    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def is_server(self) -> bool:
        """Whether several machines can reach it, and it may be away for a while."""
        return self.path is None

    @property
    def name(self) -> str:
        """How an error names it."""
        return self.shown if self.path is None else str(self.path)

    def hide(self, text: str) -> str:
        """The text without the password, should a driver have quoted it."""
        for secret in self.secrets:
            text = text.replace(secret, HIDDEN)
        return text


def parse_url(url: str) -> StorageUrl:
    """What an URL means.

    A journal may also be named by its path alone, if that ends in `.journal` or `.log`.

    Raises:
        DefinitionError: it is of no kind that is known here.
    """
    if url.startswith(SQLITE) and url not in (SQLITE, f"{SQLITE}:memory:") and "?" not in url:
        return StorageUrl(url, "sqlite", url, Path(url.removeprefix(SQLITE)))
    named = url.removeprefix(_JOURNAL)
    if named and (named != url or ("://" not in url and url.endswith(_JOURNAL_ENDS))):
        return StorageUrl(f"{_JOURNAL}{named}", "journal", f"{_JOURNAL}{named}", Path(named))
    found = _SERVER.fullmatch(url)
    if found is not None and found["scheme"] in _DRIVERS and "/" in found["rest"].strip("/"):
        kind, scheme = _DRIVERS[found["scheme"]]
        secrets = {found["password"], *(secret for _, secret in _SECRET.findall(url))} - {None, ""}
        both = {*secrets, *map(unquote, secrets)}
        _, _, rest = url.partition("://")
        _require_readable(url)
        rest = rest.replace("{", "%7B").replace("}", "%7D")  # Optuna fills in what stands in braces
        return StorageUrl(f"{scheme}://{rest}", kind, shown_url(url), secrets=tuple(sorted(both, key=len, reverse=True)))
    raise DefinitionError(
        "this storage is not supported",
        got=shown_url(url),
        expected=f"{SQLITE}PATH (such as {DEFAULT_STORAGE}), postgresql://USER:PASSWORD@HOST/DATABASE, "
        f"mysql://USER:PASSWORD@HOST/DATABASE or {_JOURNAL}PATH",
    )


def _require_readable(url: str) -> None:
    from sqlalchemy import make_url  # for servers alone
    from sqlalchemy.exc import ArgumentError

    try:
        make_url(url)
    except (ArgumentError, ValueError) as error:
        raise DefinitionError("this URL of a storage cannot be read", got=shown_url(url)) from error


def shown_url(url: str) -> str:
    """An URL without its password, be it one that is known here or not."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    login, at, host = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    login = f"{user}{colon}{HIDDEN}" if colon else user
    return _SECRET.sub(rf"\g<1>{HIDDEN}", f"{scheme}://{login}{at}{host}")


def database_path(url: str) -> Path:
    """The file of an SQLite URL.

    Raises:
        DefinitionError: the URL is of another kind.
    """
    place = parse_url(url)
    if place.kind != "sqlite" or place.path is None:
        raise DefinitionError("this storage is not an SQLite file", got=place.shown, expected=f"{SQLITE}PATH")
    return place.path
