"""Pictures by URL, fetched so that no caller reaches what the operator did not mean to share.

A host name is resolved once, every address it has is checked, and the connection goes to one of
these: a name that resolves differently a moment later gains nothing. Redirects are followed here,
one by one, through the same checks.
"""

from __future__ import annotations

import base64
import http.client
import io
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Literal
from urllib.parse import quote, unquote, urljoin, urlsplit

from edge_server.errors import ImageError, SettingsError

_REFUSED_NETWORKS = {
    ip_network(network): reason
    for network, reason in (
        ("0.0.0.0/8", "this machine"),
        ("127.0.0.0/8", "this machine"),
        ("::1/128", "this machine"),
        ("169.254.0.0/16", "link-local"),
        ("fe80::/10", "link-local"),
        ("100.100.100.200/32", "a cloud's metadata service"),
        ("168.63.129.16/32", "a cloud's metadata service"),
        ("fd00:ec2::/32", "a cloud's metadata service"),
        ("224.0.0.0/4", "multicast"),
        ("ff00::/8", "multicast"),
        ("240.0.0.0/4", "broadcast or reserved"),
        ("::/8", "unspecified or reserved"),
        ("fec0::/10", "reserved"),
    )
}
_NAT64 = IPv6Network("64:ff9b::/96")
_PORTS = {"http": 80, "https": 443}
_REDIRECTS = (301, 302, 303, 307, 308)
_UNSAFE_IN_URL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\\]")
_SAFE_IN_PATH = "!$%&'()*+,/:;=?@[]~"
_CHUNK_BYTES = 64 * 1024

Address = IPv4Address | IPv6Address
# Address family and what ``socket.connect`` takes for it.
Endpoint = tuple[socket.AddressFamily, Any]


class UrlFetcher:
    """Fetches what a URL names, within the operator's policy and limits. Thread-safe."""

    def __init__(
        self,
        *,
        url_input: Literal["any", "private", "off"],
        allow: tuple[str, ...] = (),
        max_bytes: int,
        timeout_s: float,
        max_redirects: int = 5,
    ) -> None:
        """Opens no connection.

        Args:
            url_input: fetch from ``any`` address that is not special, from ``private`` ones
                only, or nothing at all (``off``).
            allow: host names, addresses and networks (``10.0.0.0/8``) fetched from although
                their addresses would be refused.
            max_bytes: largest file fetched.
            timeout_s: seconds for one picture, redirects included. Only the resolution of a
                name is bounded by the system's resolver instead.
            max_redirects: redirects followed for one picture.

        Raises:
            SettingsError: an entry of ``allow`` is no host name, address or network.
        """
        self._url_input = url_input
        networks = [_network(entry) for entry in allow]
        self._allowed_networks = [network for network in networks if network is not None]
        self._allowed_hosts = frozenset(entry.lower() for entry in allow)
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._max_redirects = max_redirects

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """Made for the first https URL: reading the system's certificates takes a while."""
        return ssl.create_default_context()

    def fetch(self, url: str) -> bytes:
        """The body of the answer to ``GET url``.

        Raises:
            ImageError: the URL is malformed or not permitted, or the fetch fails, is too slow
                or too large. The sentence names the host, never credentials.
        """
        if self._url_input == "off":
            raise ImageError(
                "Pictures by URL are switched off on this server. Send the picture itself, or "
                "have the setting url_input changed to 'any' or 'private'."
            )
        deadline = time.monotonic() + self._timeout_s
        target = _parse_url(url)
        for _ in range(self._max_redirects + 1):
            answer = self._get(target, deadline)
            if isinstance(answer, bytes):
                return answer
            target = answer
        raise ImageError(
            f"The picture cannot be fetched from {target.host!r}: more than "
            f"{self._max_redirects} redirects."
        )

    def _get(self, target: _Target, deadline: float) -> bytes | _Target:
        """The body, or where a redirect leads."""
        try:
            with self._connection(target, deadline) as sock:
                response = _request(target, _TimedSocket(sock, deadline))
                if response.status in _REDIRECTS:
                    return _redirected(target, response.getheader("Location", ""))
                if response.status != 200:
                    raise target.failure(f"it answered with status {response.status}")
                return self._body(target, response)
        except TimeoutError as error:
            raise target.failure(f"it took longer than {self._timeout_s:g} s") from error
        except http.client.HTTPException as error:
            raise target.failure("its answer is not valid HTTP, or breaks off") from error
        except OSError as error:
            raise target.failure(error.strerror or type(error).__name__) from error

    @contextmanager
    def _connection(self, target: _Target, deadline: float) -> Iterator[socket.socket]:
        with _connect(self._resolve(target), deadline) as sock:
            self._check_not_own(target, sock)
            if target.scheme == "http":
                yield sock
                return
            sock.settimeout(_remaining(deadline))
            with self._tls.wrap_socket(sock, server_hostname=target.host) as secured:
                yield secured

    def _resolve(self, target: _Target) -> list[Endpoint]:
        """Where ``target`` may be reached; refused when one of its addresses is."""
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        for *_, sockaddr in found:
            self._check_address(target, str(sockaddr[0]))
        return [(family, sockaddr) for family, *_, sockaddr in found]

    def _check_address(self, target: _Target, text: str) -> None:
        address = _plain_address(text)
        if self._is_allowed(target, address):
            return
        reasons = (why for network, why in _REFUSED_NETWORKS.items() if address in network)
        reason = next(reasons, None)
        if reason is None and self._url_input == "private" and address.is_global:
            reason = "public, and this server fetches from private networks only"
        if reason is not None:
            raise target.refusal(f"its address {address} is {reason}")

    def _check_not_own(self, target: _Target, sock: socket.socket) -> None:
        """Only a connection to this very machine has the same address at both ends."""
        own, peer = sock.getsockname()[0], sock.getpeername()[0]
        if own == peer and not self._is_allowed(target, _plain_address(peer)):
            raise target.refusal(f"its address {peer} is this machine")

    def _is_allowed(self, target: _Target, address: Address) -> bool:
        in_network = any(address in network for network in self._allowed_networks)
        return in_network or target.host in self._allowed_hosts

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
    authorization: str | None = field(repr=False)

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.authority}"

    def failure(self, reason: str) -> ImageError:
        return ImageError(f"The picture cannot be fetched from {self.host!r}: {reason}.")

    def refusal(self, reason: str) -> ImageError:
        return ImageError(
            f"Pictures are not fetched from {self.host!r}: {reason}. Send the picture itself, or "
            "have the host added to the setting url_allow."
        )


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
    if _UNSAFE_IN_URL.search(url):
        raise ImageError("The picture's URL contains a backslash or a control character.")
    try:
        parts = urlsplit(urljoin(base, url))
        host, port = (parts.hostname or "").encode("idna").decode("ascii"), parts.port
    except ValueError:  # its text may quote credentials
        raise ImageError("The picture's URL is malformed.") from None
    if parts.scheme not in _PORTS or not host:
        raise ImageError("The picture's URL must begin with http:// or https:// and a host.")
    query = f"?{parts.query}" if parts.query else ""
    authorization = None
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {base64.b64encode(credentials.encode()).decode('ascii')}"
    return _Target(
        scheme=parts.scheme,
        host=host,
        port=_PORTS[parts.scheme] if port is None else port,
        path=quote(f"{parts.path or '/'}{query}", safe=_SAFE_IN_PATH),
        authorization=authorization,
    )


def _redirected(target: _Target, location: str) -> _Target:
    if not location:
        raise target.failure("it redirects without saying where")
    hop = _parse_url(location, base=f"{target.origin}{target.path}")
    if hop.origin == target.origin and hop.authorization is None:
        return replace(hop, authorization=target.authorization)
    return hop


def _request(target: _Target, sock: _TimedSocket) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(target.host, target.port)
    connection.auto_open = 0  # it must never connect by itself
    connection.sock = sock
    headers = {
        "Host": target.authority,
        "User-Agent": "edge-server",
        "Accept": "image/*",
        "Connection": "close",
    }
    if target.authorization is not None:
        headers["Authorization"] = target.authorization
    connection.request("GET", target.path, headers=headers)
    return connection.getresponse()


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


def _plain_address(text: str) -> Address:
    """The address, or the IPv4 address that an IPv6 one stands for."""
    address = ip_address(text)
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else address)


def _network(entry: str) -> IPv4Network | IPv6Network | None:
    """An entry of the setting ``url_allow`` as a network; None when it is a host name."""
    try:
        return ip_network(entry, strict=False)
    except ValueError:
        if re.fullmatch(r"[^\s/:@]+", entry):
            return None
        raise SettingsError(
            f"The setting url_allow has {entry!r}, which is no host name, address or network."
        ) from None
