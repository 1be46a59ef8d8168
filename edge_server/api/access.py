"""Who may ask what: the key, the same-origin rule, the names this server goes by, and CORS.

Inference, loading and unloading are open to every client, as clients of this API expect. What
changes the models on disk is not: a page in a browser or a machine on the network must not.
"""

from __future__ import annotations

import hmac
import re
import socket
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv6Address, ip_address
from typing import Literal
from urllib.parse import urlsplit

import falcon
import msgspec
from msgspec import Struct

from edge_server.api.exchange import body_of
from edge_server.errors import AccessDeniedError, KeyRequiredError

# What changes the models on disk, by route. Each is a POST with a JSON body.
STORE_ROUTES = frozenset({"/models/delete"})
# Answered without the key even when all others need it: probes and the pages that ask for it.
OPEN_ROUTES = frozenset(
    {"/", "/info", "/healthz", "/readiness", "/metrics", "/openapi.json", "/docs", "/static/{name}"}
)

_EXPOSED = (
    "X-Request-ID, X-Model-Id, X-Model-Cold-Start, X-Model-Cold-Start-Count, X-Model-Load-Time, "
    "X-Model-Load-Details, X-Processing-Time, X-Inference-Engine"
)
_PROXY_HEADERS = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")
_METHODS = "GET, HEAD, POST, OPTIONS"


class _KeyInBody(Struct):
    api_key: str | None = None


@dataclass(frozen=True)
class Access:
    """Falcon middleware that refuses what may not be.

    Attributes:
        key: what callers have to show; empty when none is set.
        key_for: ``changes`` asks for it where the store is changed, ``all`` on every route.
        allow_origins: web pages from there may read answers; ``*`` stands for all.
        allowed_hosts: names this server goes by besides those of this machine.
        loopback: the server listens on this machine only, so every caller must name it.
    """

    key: str = field(default="", repr=False)
    key_for: Literal["changes", "all"] = "changes"
    allow_origins: tuple[str, ...] = ("*",)
    allowed_hosts: tuple[str, ...] = ()
    loopback: bool = False

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Let web pages read answers as far as the operator allows; never with credentials."""
        self._allow_origin(req, resp)
        if req.method == "OPTIONS" and req.get_header("Access-Control-Request-Method"):
            resp.set_header("Access-Control-Allow-Methods", _METHODS)
            asked = req.get_header("Access-Control-Request-Headers")
            if asked:
                resp.set_header("Access-Control-Allow-Headers", asked)
            resp.set_header("Access-Control-Max-Age", "600")
            resp.text, resp.content_type, resp.complete = "OK", falcon.MEDIA_TEXT, True
        elif self.loopback:
            self._check_host(req)

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: object, params: object
    ) -> None:
        """Ask for the key where one is needed.

        Raises:
            KeyRequiredError: the key is missing or wrong.
            AccessDeniedError: the caller may not change the store of this server.
        """
        if req.uri_template in STORE_ROUTES and req.method == "POST":
            self._check_change(req)
        elif self.key and self.key_for == "all" and req.uri_template not in OPEN_ROUTES:
            self._check_key(req)

    def _allow_origin(self, req: falcon.Request, resp: falcon.Response) -> None:
        origin = req.get_header("Origin")
        if "*" not in self.allow_origins:
            resp.append_header("Vary", "Origin")
        if origin is None:
            return
        if "*" in self.allow_origins:
            resp.set_header("Access-Control-Allow-Origin", "*")
        else:
            if origin not in self.allow_origins:
                return
            resp.set_header("Access-Control-Allow-Origin", origin)
        resp.set_header("Access-Control-Expose-Headers", _EXPOSED)

    def _check_host(self, req: falcon.Request) -> None:
        """A page of somewhere else whose name was made to resolve to this machine ends here."""
        if not _is_address(req.remote_addr):  # no browser opens a Unix socket
            return
        name = _host_name(req)
        if not name:  # HTTP/1.0 has none, and no browser speaks that
            return
        if not (_is_address(name) or name in self._names or name.endswith(".localhost")):
            raise AccessDeniedError(
                f"This server is not known as {name[:100]!r}. Ask for it as localhost or by its "
                "address, or have the name added to the setting allowed_hosts."
            )

    @cached_property
    def _names(self) -> frozenset[str]:
        own = socket.gethostname().lower()
        return frozenset({"localhost", own, f"{own}.local", *map(str.lower, self.allowed_hosts)})

    def _check_change(self, req: falcon.Request) -> None:
        if self.key:
            self._check_key(req)
        else:
            self._check_own(req)
        if (req.content_type or "").partition(";")[0].strip().lower() != falcon.MEDIA_JSON:
            raise falcon.HTTPUnsupportedMediaType(
                description="Send a JSON body with Content-Type: application/json."
            )

    def _check_own(self, req: falcon.Request) -> None:
        """Let programs and pages of this machine alone pass."""
        if not _is_local(req):
            raise AccessDeniedError(
                "The models of this server are changed from other machines only with a key, and "
                "none is set. Set EDGE_SERVER_KEY there and send it as Authorization: Bearer KEY."
            )
        self._check_host(req)
        if not _is_same_origin(req):
            raise AccessDeniedError(
                "The models of this server are not changed by pages of another origin "
                f"({req.get_header('Origin', default='unknown')[:100]!r})."
            )

    def _check_key(self, req: falcon.Request) -> None:
        shown = _bearer(req) or req.get_param("api_key") or _key_in_body(req) or ""
        if not hmac.compare_digest(shown.encode(), self.key.encode()):
            raise KeyRequiredError(
                "This server asks for its key, and the request has none or another one. Send it "
                "as the header Authorization: Bearer KEY, the query parameter api_key or the "
                "JSON field api_key."
            )


def _host_name(req: falcon.Request) -> str:
    """What the caller calls this server, in lower case and without the port."""
    host = req.get_header("Host", default="").lower()
    return re.sub(r":\d*$", "", host).strip("[]").rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _is_local(req: falcon.Request) -> bool:
    """Whether the caller runs on this machine; what came through a proxy may not."""
    if any(req.get_header(name) for name in _PROXY_HEADERS):
        return False
    try:
        address = ip_address(req.remote_addr)
    except ValueError:  # a Unix socket has no address
        return True
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.is_loopback


def _is_same_origin(req: falcon.Request) -> bool:
    """Whether no web page of elsewhere is behind the request; programs send no ``Origin``."""
    if req.get_header("Sec-Fetch-Site", default="none") not in ("none", "same-origin"):
        return False
    origin = req.get_header("Origin")
    return origin is None or urlsplit(origin).netloc == req.get_header("Host")


def _bearer(req: falcon.Request) -> str | None:
    scheme, _, credentials = req.get_header("Authorization", default="").partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else None


def _key_in_body(req: falcon.Request) -> str | None:
    try:
        return msgspec.json.decode(body_of(req), type=_KeyInBody).api_key
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
