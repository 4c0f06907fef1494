"""Storage URLs: what they mean, and how to display them without a password.

The path of a file is taken as it is written: `%20`, `{x}` and `#` are parts of a name. Only `~` stands for the home folder.
Of a server's URL, SQLAlchemy decodes user, password and database.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

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

_PORTS = {"postgresql": 5432, "mysql": 3306}
"""Where a server listens if its URL names no port."""

_LOGIN = re.compile(r"(?P<before>(?:[\w+.-]*:?/+)?+[^:]*:)(?P<password>.*)@", re.DOTALL)
"""Scheme, user and password, also of a URL that is malformed: the password ends at the last `@`."""

_NO_HOST = re.compile(r"(?P<before>[\w+.-]*:?/+[^:/@\[]*:)(?P<password>(?!\d*(?:[/?]|$)).+)", re.DOTALL)
"""The same if the URL was cut off within the password: what follows the colon is no port."""

_SECRET = re.compile(r"(?i)([?&](?:password|passwd|sslpassword|pass)=)(.*?)(?=&\w+=|$)", re.DOTALL)
_READ_BY_OTHERS = "%{}?"
"""Characters in a file's name that Optuna or SQLAlchemy would not take as they are."""

_QUOTING = "in a password, write `@` as `%40`, `/` as `%2F`, `:` as `%3A`, `?` as `%3F`, `#` as `%23` and `%` as `%25`"


@dataclass(frozen=True)
class StorageUrl:
    """A parsed storage URL."""

    url: str = field(repr=False)
    """As Optuna and SQLAlchemy take it, with its password."""

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


def expand_home(path: str | Path) -> Path:
    """A path with `~` and `~USER` replaced by the home folder, as a shell does unless they follow other characters."""
    with contextlib.suppress(RuntimeError):  # there is no such user: it is a name
        return Path(path).expanduser()
    return Path(path)


def parse_url(url: str) -> StorageUrl:
    """Parses a storage URL. A journal may also be given by its path alone, if that ends in `.journal` or `.log`.

    Raises:
        DefinitionError: this kind of storage is not supported, or the URL is malformed.
    """
    if (journal := _journal_of(url)) is not None:
        return StorageUrl(f"{_JOURNAL}{journal}", "journal", f"{_JOURNAL}{journal}", expand_home(journal))
    if url.startswith(SQLITE):
        return _parse_sqlite(url)
    scheme, mark, rest = url.partition("://")
    if mark and scheme in _SERVERS and "/" in rest.rpartition("@")[2].strip("/"):
        kind, driver = _SERVERS[scheme]
        _require_valid(url)
        rest = rest.replace("{", "%7B").replace("}", "%7D")  # Optuna formats URLs with str.format
        return StorageUrl(f"{driver}://{rest}", kind, redact_url(url), secrets=secrets_of(url))
    bare = not mark and ":" not in url and "@" not in url and url != ""
    raise DefinitionError(
        "this storage is not supported",
        got=redact_url(url),
        expected=f"{SQLITE}PATH (such as {DEFAULT_STORAGE}), postgresql://USER:PASSWORD@HOST/DATABASE, "
        f"mysql://USER:PASSWORD@HOST/DATABASE or {_JOURNAL}PATH",
        hint=f"for an SQLite file: --storage {shlex.quote(SQLITE + url)}" if bare else _QUOTING if "@" in rest else None,
    )


def _journal_of(url: str) -> str | None:
    """The path of a journal as it is written; None for another kind of storage."""
    journal = url.removeprefix(_JOURNAL)
    return journal if journal and (journal != url or ("://" not in url and url.endswith(_JOURNAL_SUFFIXES))) else None


def _parse_sqlite(url: str) -> StorageUrl:
    path = expand_home(url.removeprefix(SQLITE))
    if url in (SQLITE, f"{SQLITE}:memory:"):
        raise DefinitionError("a study needs a file", got=url, expected=f"{SQLITE}PATH, such as {DEFAULT_STORAGE}")
    if "?" in url:
        raise DefinitionError(
            "the path of an SQLite file cannot hold a `?`", got=url, hint="options after `?` are not supported: leave them out"
        )
    readable = "".join(quote(letter) if letter in _READ_BY_OTHERS else letter for letter in str(path))
    return StorageUrl(f"{SQLITE}{readable}", "sqlite", url, path)


def _require_valid(url: str) -> None:
    login = _LOGIN.match(url)
    passwords = [secret for _, secret in _SECRET.findall(url)] + ([] if login is None else [login["password"]])
    if any("@" in password for password in passwords):
        raise DefinitionError("the storage URL holds an `@` that is not quoted", got=redact_url(url), hint=_QUOTING)
    from sqlalchemy import make_url  # slow to import, and needed for servers only
    from sqlalchemy.exc import ArgumentError

    try:
        make_url(url)
    except (ArgumentError, ValueError) as error:
        raise DefinitionError("this storage URL is malformed", got=redact_url(url), hint=_QUOTING) from error


def is_same_file(one: Path, other: Path) -> bool:
    """Whether two paths are names of one file."""
    return one.resolve() == other.resolve() or (one.exists() and other.exists() and one.samefile(other))


def is_same_database(one: StorageUrl, other: StorageUrl) -> bool:
    """Whether two URLs mean the same database, as far as they show it."""
    if one.path is not None and other.path is not None:
        return is_same_file(one.path, other.path)
    return _address(one) == _address(other)


def _address(url: StorageUrl) -> tuple[str | int | None, ...]:
    """The address of a server's database. Other spellings than these are caught because the study already exists there."""
    parts = urlsplit(url.redacted)
    host = "localhost" if parts.hostname in ("127.0.0.1", "::1") else parts.hostname
    return url.kind, host, parts.port or _PORTS.get(url.kind), parts.path.rstrip("/"), parts.query


def redact_url(url: str) -> str:
    """A URL of any kind without its password, even if it is malformed."""
    if url.startswith(SQLITE) or _journal_of(url) is not None:
        return url
    url = _SECRET.sub(rf"\g<1>{HIDDEN}", url)
    login = _LOGIN.match(url) or _NO_HOST.match(url)
    return url if login is None else f"{login['before']}{HIDDEN}{url[login.end('password') :]}"


def secrets_of(url: str) -> tuple[str, ...]:
    """The passwords in a URL, quoted and decoded, the longest first."""
    if redact_url(url) == url:
        return ()
    login = _LOGIN.match(url) or _NO_HOST.match(url)
    quoted = {"" if login is None else login["password"], *(secret for _, secret in _SECRET.findall(url))} - {""}
    return tuple(sorted({*quoted, *map(unquote, quoted)}, key=len, reverse=True))


def sqlite_path(url: str) -> Path:
    """The file of an SQLite URL.

    Raises:
        DefinitionError: the URL is of another kind.
    """
    parsed = parse_url(url)
    if parsed.kind != "sqlite" or parsed.path is None:
        raise DefinitionError("this storage is not an SQLite file", got=parsed.redacted, expected=f"{SQLITE}PATH")
    return parsed.path
