"""Makes optuna-dashboard's pages fit into the window: by themselves they are up to three times as wide as a phone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

_STYLE = b"""<style>
main, main div { min-width: 0 !important; }
main table { min-width: 0 !important; }
main td, main p { overflow-wrap: anywhere; }
@media (max-width: 600px) {
    main [class*="MuiGrid-grid-xs-"] { flex-basis: 100% !important; max-width: 100% !important; }
}
</style></head>"""
"""Boxes may become narrower than their content, which then wraps or scrolls by itself; on a phone they stand below each other.
The names of classes are those of Material UI, https://mui.com/material-ui/api/grid/."""

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def fitting(app: WsgiApp) -> WsgiApp:
    """The application with the style in each of its HTML pages."""

    def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        answer: list[tuple[Any, ...]] = []
        body = app(environ, lambda *given: answer.append(given))
        status, headers, *more = answer[-1]
        if dict(headers).get("Content-Type", "").startswith("text/html"):
            body = [b"".join(body).replace(b"</head>", _STYLE, 1)]
            headers = [(name, value) for name, value in headers if name != "Content-Length"]
            headers.append(("Content-Length", str(len(body[0]))))
        start_response(status, headers, *more)
        return body

    return call
