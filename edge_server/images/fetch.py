"""Pictures by URL, fetched so that no caller reaches what the operator did not mean to share.

A host name is resolved once, every address it has is checked, and the connection goes to one of
these: a name that resolves differently a moment later gains nothing. Redirects are followed here,
one by one, through the same checks. What is permitted stands in ``url_policy``.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from ipaddress import ip_address
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from edge_server.errors import BusyError, ImageError
from edge_server.images.digest import Credentials, authorization
from edge_server.images.url_policy import UrlPolicy

_PORTS = {"http": 80, "https": 443}
_REDIRECTS = (301, 302, 303, 307, 308)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_HOST_NAME = re.compile(r"[a-z0-9._-]{1,253}")
_LONGEST_URL = 16 * 1024
_SAFE_IN_PATH = "!$%&'()*+,/:;=?@[]~"
_CHUNK_BYTES = 64 * 1024

# Address family and what ``socket.connect`` takes for it.
Endpoint = tuple[socket.AddressFamily, Any]


class UrlFetcher:
    """Fetches what a URL names, within the operator's policy and limits. Thread-safe."""

    def __init__(
        self,
        policy: UrlPolicy,
        *,
        max_bytes: int,
        timeout_s: float,
        max_redirects: int = 5,
        max_at_once: int = 4,
    ) -> None:
        """Opens no connection.

        Args:
            policy: what may be fetched.
            max_bytes: largest file fetched.
            timeout_s: seconds for one picture, name look-up and redirects included.
            max_redirects: redirects followed for one picture.
            max_at_once: pictures fetched at the same time; more are refused at once, so that
                slow cameras cannot take every thread of the server.
        """
        self._policy = policy
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._max_redirects = max_redirects
        self._fetches = threading.BoundedSemaphore(max_at_once)
        # A look-up may outlive its fetch: the system's resolver cannot be interrupted.
        self._look_ups = threading.BoundedSemaphore(max_at_once)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """Made for the first https URL: reading the system's certificates takes a while."""
        return ssl.create_default_context()

    def deadline(self) -> float:
        """When a fetch that begins now has to end, on the monotonic clock."""
        return time.monotonic() + self._timeout_s

    def fetch(self, url: str, deadline: float | None = None) -> bytes:
        """The body of the answer to ``GET url``.

        Args:
            url: of a picture.
            deadline: of several fetches together; None for a fetch of its own.

        Raises:
            ImageError: the URL is malformed or not permitted, or the fetch fails, is too slow
                or too large. The sentence names the host, never credentials.
            BusyError: as many pictures as permitted are being fetched.
        """
        _take(self._fetches)
        try:
            return self._follow(_parse_url(url), deadline or self.deadline())
        finally:
            self._fetches.release()

    def _follow(self, target: _Target, deadline: float) -> bytes:
        for _ in range(self._max_redirects + 1):
            self._policy.check_url(target.scheme, target.host)
            answer = self._get(target, deadline)
            if isinstance(answer, bytes):
                return answer
            target = answer
        raise target.failure(f"more than {self._max_redirects} redirects")

    def _get(self, target: _Target, deadline: float) -> bytes | _Target:
        """The body, or where a redirect leads. Credentials are sent when they are asked for."""
        try:
            endpoints = self._resolve(target, deadline)
            proof = None
            with self._response(target, endpoints, deadline) as response:
                if response.status == 401 and target.credentials is not None:
                    proof = _proof(target, target.credentials, response)
                else:
                    return self._read(target, response)
            with self._response(target, endpoints, deadline, proof) as response:
                return self._read(target, response)
        except TimeoutError as error:
            raise target.failure(f"it took longer than {self._timeout_s:g} s") from error
        except http.client.HTTPException as error:
            raise target.failure("its answer is not valid HTTP, or breaks off") from error
        except OSError as error:
            raise target.failure(error.strerror or type(error).__name__) from error

    @contextmanager
    def _response(
        self,
        target: _Target,
        endpoints: list[Endpoint],
        deadline: float,
        proof: str | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer to one request over a connection of its own."""
        with _connect(endpoints, deadline) as sock:
            if target.scheme == "http":
                yield _request(target, _TimedSocket(sock, deadline), proof)
                return
            sock.settimeout(_remaining(deadline))
            with self._tls.wrap_socket(sock, server_hostname=target.host) as secured:
                yield _request(target, _TimedSocket(secured, deadline), proof)

    def _resolve(self, target: _Target, deadline: float) -> list[Endpoint]:
        """Where ``target`` may be reached; refused when one of its addresses is."""
        endpoints = self._look_up(target, deadline)
        for family, sockaddr in endpoints:
            own = _is_own(family, sockaddr)
            self._policy.check_address(target.host, str(sockaddr[0]), own=own)
        return endpoints

    def _look_up(self, target: _Target, deadline: float) -> list[Endpoint]:
        """Ask the system's resolver, in a thread because it takes no time limit."""
        answers: SimpleQueue[list[Endpoint] | OSError] = SimpleQueue()

        def ask() -> None:
            try:
                found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
                answers.put([(family, sockaddr) for family, *_, sockaddr in found])
            except OSError as error:
                answers.put(error)
            finally:
                self._look_ups.release()

        _take(self._look_ups)
        threading.Thread(target=ask, name="look-up", daemon=True).start()
        try:
            answer = answers.get(timeout=_remaining(deadline))
        except Empty:
            raise TimeoutError from None
        if isinstance(answer, OSError):
            raise answer
        return answer

    def _read(self, target: _Target, response: http.client.HTTPResponse) -> bytes | _Target:
        if response.status in _REDIRECTS:
            return _redirected(target, response.getheader("Location", ""))
        if response.status == 401:
            reason = "refuses the user name or the password of the URL"
            if target.credentials is None:
                reason = "wants a user name and a password, as in http://name:password@host/"
            raise target.failure(f"it answered with status 401: it {reason}")
        if response.status != 200:
            raise target.failure(f"it answered with status {response.status}")
        if response.headers.get_content_type() == "multipart/x-mixed-replace":
            raise target.failure(
                "it sends a stream (MJPEG) that never ends; use the camera's URL for a snapshot"
            )
        return self._body(target, response)

    def _body(self, target: _Target, response: http.client.HTTPResponse) -> bytes:
        announced = response.length or 0  # 0 where the server does not say
        body = bytearray()
        while max(announced, len(body)) <= self._max_bytes:
            chunk = response.read(_CHUNK_BYTES)
            if chunk:
                body += chunk
            elif len(body) < announced:
                raise target.failure(f"it sent {len(body)} of {announced} bytes")
            else:
                return bytes(body)
        raise target.failure(f"the file is larger than {self._max_bytes} bytes")


@dataclass(frozen=True)
class _Target:
    """One URL, taken apart. Its credentials appear in nothing that is printed."""

    scheme: str
    host: str
    port: int
    path: str
    credentials: Credentials | None = field(repr=False)

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.authority}"

    def failure(self, reason: str) -> ImageError:
        return ImageError(f"The picture cannot be fetched from {self.host!r}: {reason}.")


class _TimedSocket(io.RawIOBase):
    """What ``http.client`` needs of a socket, with every wait ending at one deadline.

    A time limit of the socket's own would start anew with every byte that trickles in.
    """

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(_remaining(self._deadline))
        self._sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any writable buffer
        self._sock.settimeout(_remaining(self._deadline))
        return self._sock.recv_into(buffer)

    def close(self) -> None:
        """Left to the owner of the socket; ``http.client`` closes before the body is read."""


def _parse_url(url: str, base: str = "") -> _Target:
    if len(url) > _LONGEST_URL:
        raise ImageError(
            f"The picture's URL has {len(url)} characters; at most {_LONGEST_URL} are accepted."
        )
    if "\\" in url or _CONTROL.search(url):
        raise ImageError("The picture's URL contains a backslash or a control character.")
    try:
        parts = urlsplit(urljoin(base, url))
        host, port, credentials = _host(parts.hostname or ""), parts.port, None
        if parts.username is not None:
            credentials = _credentials(parts.username, parts.password or "")
    except ValueError:  # its text may quote credentials
        raise ImageError("The picture's URL is malformed.") from None
    if parts.scheme not in _PORTS or not host:
        raise ImageError("The picture's URL must begin with http:// or https:// and a host.")
    query = f"?{parts.query}" if parts.query else ""
    return _Target(
        scheme=parts.scheme,
        host=host,
        port=_PORTS[parts.scheme] if port is None else port,
        path=quote(f"{parts.path or '/'}{query}", safe=_SAFE_IN_PATH),
        credentials=credentials,
    )


def _host(name: str) -> str:
    """The host of a URL as it is looked up, compared and shown; empty stays empty.

    Raises:
        ValueError: it is no host name and no address.
    """
    if ":" in name:
        return str(ip_address(name))
    if not name:
        return name
    host = name.encode("idna").decode("ascii").lower().removesuffix(".")
    if not _HOST_NAME.fullmatch(host):
        raise ValueError
    return host


def _credentials(user: str, password: str) -> Credentials:
    """Both as the server knows them, without the escapes of a URL.

    Raises:
        ValueError: there is a control character in one of them.
    """
    credentials = Credentials(unquote(user), unquote(password))
    if any(_CONTROL.search(text) for text in credentials):
        raise ValueError
    return credentials


def _redirected(target: _Target, location: str) -> _Target:
    if not location:
        raise target.failure("it redirects without saying where")
    hop = _parse_url(location, base=f"{target.origin}{target.path}")
    if hop.origin == target.origin and hop.credentials is None:
        return replace(hop, credentials=target.credentials)
    return hop


def _proof(target: _Target, credentials: Credentials, response: http.client.HTTPResponse) -> str:
    """What to answer to a server that asks who is there."""
    challenges = response.headers.get_all("WWW-Authenticate", [])
    proof = authorization(challenges, credentials, target.path)
    if proof is None:
        raise target.failure(
            "it answered with status 401 and asks for credentials in a way that is not "
            "understood here; Digest (SHA-256 or MD5, qop auth) and Basic are"
        )
    return proof


def _request(target: _Target, sock: _TimedSocket, proof: str | None) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(target.host, target.port)
    connection.auto_open = 0  # it must never connect by itself
    connection.sock = sock
    headers: dict[str, str | bytes] = {
        "Host": target.authority,
        "User-Agent": "edge-server",
        "Accept": "image/*",
        "Connection": "close",
    }
    if proof is not None:
        headers["Authorization"] = proof.encode("utf-8", "surrogateescape")
    connection.request("GET", target.path, headers=headers)
    return connection.getresponse()


def _take(places: threading.BoundedSemaphore) -> None:
    if not places.acquire(blocking=False):
        raise BusyError(
            "As many pictures as this server permits are being fetched by URL. Try again shortly, "
            "or send the picture itself."
        )


def _is_own(family: socket.AddressFamily, sockaddr: Any) -> bool:  # noqa: ANN401
    """Whether this very machine has the address: it alone is reached from the same address.

    Connecting a datagram socket sends nothing, it only chooses the way.
    """
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(sockaddr)
            return bool(probe.getsockname()[0] == probe.getpeername()[0])
    except OSError:
        return False


def _connect(endpoints: list[Endpoint], deadline: float) -> socket.socket:
    """A connection to the first endpoint that takes one."""
    failure = OSError()
    for family, sockaddr in endpoints:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(_remaining(deadline))
            sock.connect(sockaddr)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


def _remaining(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
