"""Makes optuna-dashboard's pages fit into the window: by themselves they are up to three times as wide as a phone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

_STYLE = b"""<style>
:where(main, main div) { min-width: 0; }
main table { min-width: 0 !important; }
main .MuiTableCell-root, main p { overflow-wrap: anywhere; }
main table:not(.MuiTable-root) { display: block; overflow-x: auto; }
@media (max-width: 600px) {
    main p { min-width: 0 !important; }
    main [class*="MuiGrid-grid-xs-"] { flex-basis: 100% !important; max-width: 100% !important; }
    main div:has(> div > .MuiList-root) { flex-direction: column; }
    main div:has(> .MuiList-root) { max-height: 9em; flex-shrink: 0; }
}
</style></head>"""
"""Boxes may become narrower than their content, which then wraps or scrolls by itself; on a phone they stand below each other,
and the list of trials above the trial. `:where` leaves boxes alone for which optuna-dashboard sets a width.
The names of classes are those of Material UI, https://mui.com/material-ui/api/grid/ and /list/."""

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
