"""``/openapi.json`` and the page that shows it. All of it comes from this server."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import PurePosixPath

import falcon
import msgspec

from edge_server.api.openapi import Route, describe
from edge_server.api.operations import BINARY, operation

_PAGES = files("edge_server") / "console"
_TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css"}
# Nothing from elsewhere, no inline script, in nobody's frame.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class DocumentResource:
    """Files that ship inside, and the document made from the routes."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes

    @cached_property
    def _openapi(self) -> bytes:
        """Made when somebody asks for it first."""
        return msgspec.json.encode(describe(self._routes))

    @operation("This description", answer={"application/json": BINARY})
    def on_get_openapi(self, req: falcon.Request, resp: falcon.Response) -> None:
        """OpenAPI 3.1."""
        resp.content_type = falcon.MEDIA_JSON
        resp.data = self._openapi

    @operation("A page to read and try this API", answer={"text/html": BINARY})
    def on_get_docs(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The page; it reads ``/openapi.json``."""
        self.on_get_static(req, resp, "docs.html")

    @operation(
        "What the pages are made of",
        answer={"text/css": BINARY, "text/javascript": BINARY},
        refusals=(404,),
    )
    def on_get_static(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Only names of files that ship inside are known."""
        page = _PAGES / name
        kind = _TYPES.get(PurePosixPath(name).suffix)
        if "/" in name or kind is None or not page.is_file():
            raise falcon.HTTPNotFound
        resp.content_type = kind
        resp.data = page.read_bytes()
        resp.set_header("Content-Security-Policy", _POLICY)
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.set_header("Cache-Control", "no-cache")
