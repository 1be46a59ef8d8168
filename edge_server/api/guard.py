"""In front of waitress's parser: a request that two programs could read differently is refused.

waitress accepts more than it should: it joins repeated headers, knows any version of HTTP, takes
bare line feeds in chunked bodies. Behind a proxy that reads such a request another way, one client
could hide a request inside another's. Every refusal is a 400, and the connection is closed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import msgspec
from waitress.parser import HTTPRequestParser
from waitress.receiver import ChunkedReceiver
from waitress.task import ErrorTask
from waitress.utilities import BadRequest, Error

from edge_server.appliance import MEBI

_START = re.compile(rb"([A-Z]+) ([\x21-\x7e]+) HTTP/1\.([01])")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t\x20-\x7e\x80-\xff]*)")
_AUTHORITY = rb"(?:[0-9A-Za-z._-]+|\[[0-9A-Za-z:.%_-]+\])(?::[0-9]{0,5})?"
_HOST = re.compile(_AUTHORITY)
_ABSOLUTE = re.compile(rb"https?://(" + _AUTHORITY + rb")(?:[/?].*)?", re.IGNORECASE)
_LENGTH = re.compile(rb"[0-9]{1,18}")  # longer numbers make int() raise or mean nothing
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e]*)?")

_SINGLE = (b"Host", b"Content-Length", b"Transfer-Encoding", b"Content-Type")
_TLS_HANDSHAKE = b"\x16"
_CHUNK_LINE_BYTES = 4096
# Sizes, extensions and trailers of a chunked body may take so much, and an eighth of its content.
_CHUNK_FRAMING_BYTES = 64 * 1024


def framing_problem(head: bytes) -> str | None:
    """What makes the head of a request ambiguous or malformed (RFC 9112), as a sentence.

    Args:
        head: the request line and the header lines as received, without the blank line.
    """
    start, *lines = head.removeprefix(b"\r\n").split(b"\r\n")
    request = _START.fullmatch(start)
    if request is None:
        return (
            f"The request line {_shown(start)} is not understood; it must be a method in "
            "capitals, a path and HTTP/1.1 or HTTP/1.0, with one space between them."
        )
    method, target, minor = request.groups()
    fields: dict[bytes, list[bytes]] = defaultdict(list)
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            return (
                f"The header line {_shown(line)} is not understood; it must be a name, a colon "
                "and a value, on one line and without control characters."
            )
        fields[field[1].lower()].append(field[2].strip(b" \t"))
    for name in _SINGLE:
        if len(fields[name.lower()]) > 1:
            return f"The header {name.decode()} was sent more than once; send it once."
    hosts = fields[b"host"]
    return (
        _host_problem(hosts, minor)
        or _target_problem(method, target, hosts)
        or _length_problem(fields[b"content-length"], fields[b"transfer-encoding"], minor)
    )


def _host_problem(hosts: list[bytes], minor: bytes) -> str | None:
    if not hosts:
        return "HTTP/1.1 needs a Host header; send one." if minor == b"1" else None
    if not _HOST.fullmatch(hosts[0]):
        return (
            f"The header Host is {_shown(hosts[0])}; it must be a name or an address, and may "
            "have a port."
        )
    return None


def _target_problem(method: bytes, target: bytes, hosts: list[bytes]) -> str | None:
    if target.startswith(b"/") or (method, target) == (b"OPTIONS", b"*"):
        return None
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute and [absolute[1].lower()] == [host.lower() for host in hosts]:
        return None
    return (
        f"The target {_shown(target)} is not served here; it must be a path such as /info, or a "
        "URL of the host that the header Host names."
    )


def _length_problem(lengths: list[bytes], codings: list[bytes], minor: bytes) -> str | None:
    if lengths and codings:
        return "Content-Length and Transfer-Encoding exclude each other; send one of them."
    if lengths and not _LENGTH.fullmatch(lengths[0]):
        return f"The header Content-Length is {_shown(lengths[0])}; it must be a number of bytes."
    if codings and (codings[0] != b"chunked" or minor != b"1"):
        return (
            f"The header Transfer-Encoding is {_shown(codings[0])} with HTTP/1.{minor.decode()}; "
            "only chunked with HTTP/1.1 is understood."
        )
    return None


def _shown(value: bytes) -> str:
    return repr(value[:60].decode("latin-1"))


class StrictChunks(ChunkedReceiver):  # type: ignore[misc]
    """The body of a chunked request, read in one pass (RFC 9112, section 7.1).

    waitress's own accepts bare line feeds and stray blank lines, copies the rest of what it got
    once per chunk (seconds for 3 MB of one-byte chunks), and has no bound on trailers.
    """

    _held = b""  # a line whose end has not come yet
    _left = 0  # bytes of the present chunk that have not come yet
    _framing = 0
    _chunk_ends = False  # the blank line after the content of a chunk is due
    _trailers = False

    def received(self, data: bytes) -> int:
        """Take in ``data``; how many of its bytes belong to this body."""
        text, at = self._held + data, 0
        while not (self.completed or self.error):
            content = text[at : at + self._left]
            if content:
                self.buf.append(content)
                at += len(content)
                self._left -= len(content)
            end = text.find(b"\r\n", at)
            if self._left or end < 0:
                break
            self._line(text[at:end])
            at = end + 2
        held, self._held = self._held, b"" if self.completed else text[at:]
        if not self.error and len(self._held) > _CHUNK_LINE_BYTES:
            self._refuse("has a line that is too long")
        return at - len(held) if self.completed else len(data)

    def _line(self, line: bytes) -> None:
        self._framing += len(line) + 2
        if self._framing > _CHUNK_FRAMING_BYTES + len(self) // 8:
            self._refuse("is mostly framing; send larger chunks")
        elif self._chunk_ends:
            self._chunk_ends = False
            if line:
                self._refuse("has a chunk that is longer than its size")
        elif self._trailers:
            self.completed = not line
        elif size := _CHUNK.fullmatch(line):
            self._left = int(size[1], 16)
            self._chunk_ends = self._left > 0
            self._trailers = not self._chunk_ends
        else:
            self._refuse(f"has {_shown(line)} where the size of a chunk is due")

    def _refuse(self, what: str) -> None:
        self.error = BadRequest(f"The chunked body {what}.")


class GuardedParser(HTTPRequestParser):  # type: ignore[misc]
    """Reads one request, once its head is known to have one meaning. One thread at a time."""

    path = ""  # waitress names it when a client leaves, even if nothing was parsed
    body_rcv: Any
    expect_continue: bool
    error: Error | None

    def received(self, data: bytes) -> int:
        """Take in ``data``; how many of its bytes belong to this request."""
        problem = self._problem(data) if self.body_rcv is None else None
        consumed: int = len(data) if problem else super().received(data)
        if problem or self.error:
            self.refuse(BadRequest(problem) if problem else self.error)
            return len(data)
        # waitress would ask for a body that nothing announced, and wait for it.
        self.expect_continue = self.expect_continue and self.body_rcv is not None
        return consumed

    def refuse(self, error: Error) -> None:
        """Have the request answered with ``error``, whatever of it may still come."""
        self.error, self.completed = error, True
        self.version, self.expect_continue = "1.1", False

    def _problem(self, data: bytes) -> str | None:
        if data.startswith(_TLS_HANDSHAKE) and not self.header_plus:
            return "This port speaks HTTP without TLS; use an address that starts with http://."
        head, complete, _ = (self.header_plus + data).partition(b"\r\n\r\n")
        # Without a head it is a blank line between two requests, which RFC 9112 lets pass.
        return framing_problem(head) if complete and head else None

    def parse_header(self, header_plus: bytes) -> None:
        """Read the head, and have a chunked body read strictly."""
        super().parse_header(header_plus)
        if self.chunked:
            self.body_rcv = StrictChunks(self.body_rcv.getbuf())


class JsonErrorTask(ErrorTask):  # type: ignore[misc]
    """Answers what never reaches the application: an error as JSON with ``message``."""

    def execute(self) -> None:
        """Write the whole answer; the connection is closed after it."""
        error: Error = self.request.error
        body = msgspec.json.encode({"message": self._message(error)})
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)

    def _message(self, error: Error) -> str:
        limits = self.channel.adj
        if error.code == 413:
            return (
                f"The body is larger than {limits.max_request_body_size // MEBI} MiB. Send a "
                "smaller picture, or raise the setting max_body_mib."
            )
        if error.code == 431:
            return (
                f"The header is larger than {limits.max_request_header_size // 1024} KiB. "
                "Send what is long, such as a picture, in the body."
            )
        return "Internal error." if error.code == 500 else str(error.body)
