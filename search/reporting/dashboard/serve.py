"""Serves optuna-dashboard on the study database, by default on this machine only."""

from __future__ import annotations

import errno
import shlex
import socket
import socketserver
import wsgiref.simple_server
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import optuna_dashboard

from search.errors import ResourceError
from search.reporting.dashboard.narrow import fitting
from search.storage.url import parse_url

_PORTS_TRIED = 100


class _QuietHandler(wsgiref.simple_server.WSGIRequestHandler):
    """Logs no requests."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    """Handles each request in a thread: a slow browser blocks no other, and Ctrl-C reaches the main thread."""

    daemon_threads = True


class _IPv6Server(_Server):
    address_family = socket.AF_INET6


def free_port(host: str, port: int) -> int:
    """The port, or the next free one after it.

    Raises:
        ResourceError: none of the next hundred ports is free, or the host is not an address of this machine.
    """
    for candidate in range(port, min(port + _PORTS_TRIED, 65536)):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
            except PermissionError:
                continue
            except OSError as error:
                if isinstance(error, socket.gaierror) or error.errno != errno.EADDRINUSE:
                    raise ResourceError(
                        "the dashboard cannot listen on this address",
                        where=f"{host}:{candidate}",
                        got=error.strerror,
                        hint="omit --host to listen on this machine only",
                    ) from error
                continue
            return candidate
    raise ResourceError(
        "no port is free for the dashboard",
        got=f"{host}:{port} and the next {_PORTS_TRIED} ports are in use",
        hint="choose another port with --port",
    )


def address(host: str, port: int, study_id: int) -> str:
    """The URL of a study's page for a browser."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/dashboard/studies/{study_id}"


def serve(
    storage: optuna.storages.BaseStorage, host: str, port: int, on_ready: Callable[[], None], artifacts: Path | None = None
) -> None:
    """Serves the storage and the artifacts of a folder until interrupted. Calls `on_ready` once the port accepts requests."""
    store = None if artifacts is None else optuna.artifacts.FileSystemArtifactStore(artifacts)
    app = fitting(optuna_dashboard.wsgi(storage, store))
    server_class = _IPv6Server if ":" in host else _Server
    with wsgiref.simple_server.make_server(host, port, app, server_class, _QuietHandler) as server:
        on_ready()
        server.serve_forever()


def plain_command(storage_url: str, host: str, port: int, artifacts: Path) -> str:
    """The command of optuna-dashboard itself that serves the same page."""
    where = ["--host", host, "--port", str(port), "--artifact-dir", str(artifacts)]
    place = parse_url(storage_url)
    named = {"journal": str(place.path), "sqlite": place.url}.get(place.kind, place.redacted)
    return shlex.join(["optuna-dashboard", named, *where])
