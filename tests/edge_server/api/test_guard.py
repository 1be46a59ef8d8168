"""What reaches the application, and what is refused before it: bytes on a socket."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess

import pytest

from edge_server.api.guard import framing_problem
from tests.edge_server.api.raw import RawClient, port_of, serving

GET = b"GET /a HTTP/1.1\r\nHost: box\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: box\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: box\r\n\r\n"


class Echo:
    """An application that remembers what it was asked and answers with it."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, environ, start_response):
        self.seen.append(environ["PATH_INFO"])
        if environ["PATH_INFO"] == "/fails":
            raise RuntimeError("a defect in the application")
        body = environ["wsgi.input"].read()
        answer = {"path": environ["PATH_INFO"], "body": body.decode("latin-1")}
        data = json.dumps(answer).encode()
        start_response("200 OK", [("Content-Length", str(len(data)))])
        return [data]


@pytest.fixture(scope="module")
def served():
    """The application, and the port of a server that takes bodies of up to 1 MiB."""
    echo = Echo()
    with serving(echo, max_body_mib=1, server_threads=2) as server:
        yield echo, port_of(server)


@pytest.fixture
def echo(served):
    served[0].seen.clear()
    return served[0]


@pytest.fixture
def port(served, echo):
    return served[1]


@pytest.mark.parametrize(
    ("request_bytes", "path", "body"),
    [
        pytest.param(GET + b"\r\n", "/a", "", id="no body"),
        pytest.param(b"\r\n" + GET + b"\r\n", "/a", "", id="an empty line before"),
        pytest.param(b"GET /a HTTP/1.0\r\n\r\n", "/a", "", id="HTTP/1.0 without Host"),
        pytest.param(b"GET //a HTTP/1.1\r\nHost: b\r\n\r\n", "/a", "", id="two slashes"),
        pytest.param(b"GET /a HTTP/1.1\r\nhOST:b\r\n\r\n", "/a", "", id="any case, no space"),
        pytest.param(
            b"GET /a HTTP/1.1\r\nHost: [fe80::1%25eth0]:9001\r\n\r\n", "/a", "", id="IPv6"
        ),
        pytest.param(b"GET http://Box:1/a?b HTTP/1.1\r\nHost: box:1\r\n\r\n", "/a", "", id="a URL"),
        pytest.param(b"OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n", "*", "", id="OPTIONS *"),
        pytest.param(GET + b"execution_id: 7\r\nX: \xc3\xa9\t\r\n\r\n", "/a", "", id="odd headers"),
        pytest.param(GET + b"Accept: a\r\nAccept: b\r\n\r\n", "/a", "", id="two Accept"),
        pytest.param(GET + b"Expect: 100-continue\r\n\r\n", "/a", "", id="Expect without a body"),
        pytest.param(POST + b"Content-Length: 5\r\n\r\nhello", "/a", "hello", id="a length"),
        pytest.param(POST + b"Content-Length: 0\r\n\r\n", "/a", "", id="length zero"),
        pytest.param(CHUNKED + b"0\r\n\r\n", "/a", "", id="chunked, empty"),
        pytest.param(CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", "/a", "hello", id="chunked"),
        pytest.param(
            CHUNKED + b'00A;x="y z"\r\n0123456789\r\n2\r\n\r\n\r\n0;z\r\nEtag: 1\r\n\r\n',
            "/a",
            "0123456789\r\n",
            id="chunked, with extensions, line ends and a trailer",
        ),
        pytest.param(
            POST + b"Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
            "/a",
            HIDDEN.decode(),
            id="a body that looks like a request",
        ),
    ],
)
@pytest.mark.parametrize(
    "pieces", [pytest.param(False, id="at once"), pytest.param(True, id="bytewise")]
)
def test_what_is_clear_is_served_once(echo, port, request_bytes, path, body, pieces):
    with RawClient(port) as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(request_bytes) if pieces else 0):
            client.socket.sendall(request_bytes[at : at + 1])
        if not pieces:
            client.socket.sendall(request_bytes)
        answer = client.answer()
        assert answer.status == 200
        assert answer.json == {"path": path, "body": body}
        if b"HTTP/1.1" in request_bytes:
            client.socket.sendall(b"GET /next HTTP/1.1\r\nHost: box\r\n\r\n")
            assert client.answer().json["path"] == "/next"
    assert echo.seen == [path, "/next"][: 2 if b"HTTP/1.1" in request_bytes else 1]


REFUSED = [
    pytest.param(b"GET /a HTTP/1.1\r\n\r\n", "needs a Host", id="no Host"),
    pytest.param(GET + b"Host: box\r\n\r\n", "Host was sent more", id="two Host"),
    pytest.param(b"GET /a HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", "Host was sent", id="two, 1.0"),
    pytest.param(b"GET /a HTTP/1.1\r\nHost:\r\n\r\n", "Host is ''", id="empty Host"),
    pytest.param(b"GET /a HTTP/1.1\r\nHost: a b\r\n\r\n", "Host is 'a b'", id="Host with a space"),
    pytest.param(b"GET /a HTTP/1.1\r\nHost: a,b\r\n\r\n", "Host is", id="Host with a comma"),
    pytest.param(b"GET /a HTTP/1.1\r\nHost: u@a\r\n\r\n", "Host is", id="Host with a user"),
    pytest.param(b"GET /a HTTP/1.1\r\nHost: a/b\r\n\r\n", "Host is", id="Host with a path"),
    pytest.param(
        b"GET /a HTTP/1.1\r\nHost: a:b\r\n\r\n", "Host is", id="Host with a port of letters"
    ),
    pytest.param(b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", "target", id="URL of another host"),
    pytest.param(b"GET http://[::1 HTTP/1.1\r\nHost: a\r\n\r\n", "target", id="URL malformed"),
    pytest.param(b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "target", id="CONNECT"),
    pytest.param(b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", "target 'a'", id="no slash"),
    pytest.param(b"GET /a\x00 HTTP/1.1\r\nHost: a\r\n\r\n", "request line", id="NUL in the target"),
    pytest.param(b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", "request line", id="not ASCII"),
    pytest.param(b"GET  /a HTTP/1.1\r\nHost: a\r\n\r\n", "request line", id="two spaces"),
    pytest.param(b"GET /a HTTP/1.1 \r\nHost: a\r\n\r\n", "request line", id="a space at the end"),
    pytest.param(b" GET /a HTTP/1.1\r\nHost: a\r\n\r\n", "request line", id="a space before"),
    pytest.param(b"\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n", "request line", id="a line feed before"),
    pytest.param(b"get /a HTTP/1.1\r\nHost: a\r\n\r\n", "request line", id="small letters"),
    pytest.param(b"GET /a\r\n\r\n", "request line", id="HTTP/0.9"),
    pytest.param(b"GET /a HTTP/1.2\r\nHost: a\r\n\r\n", "HTTP/1.1 or", id="HTTP/1.2"),
    pytest.param(b"GET /a HTTP/2.0\r\nHost: a\r\n\r\n", "HTTP/1.1 or", id="HTTP/2.0"),
    pytest.param(b"GET /a HTTP/1.1\nHost: a\r\n\r\n", "request line", id="bare LF, first line"),
    pytest.param(GET + b"X: a\nY: b\r\n\r\n", "'X: a\\nY: b'", id="bare LF in a header"),
    pytest.param(GET + b"X: a\rY: b\r\n\r\n", "header line", id="bare CR in a header"),
    pytest.param(GET + b"X: a\r\n b\r\n\r\n", "on one line", id="a folded header"),
    pytest.param(GET + b"X : a\r\n\r\n", "header line", id="a space before the colon"),
    pytest.param(GET + b"X\r\n\r\n", "header line 'X'", id="no colon"),
    pytest.param(GET + b": a\r\n\r\n", "header line", id="no name"),
    pytest.param(GET + b"X\x00: a\r\n\r\n", "header line", id="NUL in a name"),
    pytest.param(GET + b"X: a\x00\r\n\r\n", "header line", id="NUL in a value"),
    pytest.param(GET + b"X: a\x7f\r\n\r\n", "header line", id="DEL in a value"),
    pytest.param(
        POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na", "once", id="two lengths"
    ),
    pytest.param(POST + b"Content-Length: 1, 1\r\n\r\na", "'1, 1'", id="two lengths in one"),
    pytest.param(POST + b"Content-Length: +1\r\n\r\na", "'+1'", id="length with a sign"),
    pytest.param(POST + b"Content-Length: 0x1\r\n\r\na", "'0x1'", id="length in hex"),
    pytest.param(POST + b"Content-Length:\r\n\r\n", "Length is ''", id="length empty"),
    pytest.param(
        POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", "bytes", id="length of 5000 digits"
    ),
    pytest.param(
        POST + b"Content-Type: a\r\nContent-Type: a\r\n\r\n", "once", id="two Content-Type"
    ),
    pytest.param(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", "gzip", id="gzip"),
    pytest.param(POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n", "only", id="chunked twice"),
    pytest.param(POST + b"Transfer-Encoding: identity\r\n\r\n", "'identity'", id="identity"),
    pytest.param(POST + b"Transfer-Encoding: xchunked\r\n\r\n", "'xchunked'", id="xchunked"),
    pytest.param(
        POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n", "header line", id="vertical tab"
    ),
    pytest.param(POST + b"Transfer-Encoding:\r\n\r\n", "Encoding is ''", id="encoding empty"),
    pytest.param(CHUNKED + b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "size of a chunk", id="blank lines"),
    pytest.param(
        CHUNKED + b"5\r\nhello\r\n\r\n0\r\n\r\n", "size of a chunk", id="a blank line between"
    ),
    pytest.param(CHUNKED + b"x\r\nhello\r\n0\r\n\r\n", "'x'", id="size no number"),
    pytest.param(CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n", "'-5'", id="size negative"),
    pytest.param(CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n", "'5 '", id="size with a space"),
    pytest.param(CHUNKED + b"5;\x01\r\nhello\r\n0\r\n\r\n", "size", id="a control in an extension"),
    pytest.param(
        CHUNKED + b"5\r\nhello!\r\n0\r\n\r\n", "longer than", id="chunk longer than its size"
    ),
    pytest.param(CHUNKED + b"5;" + b"a" * 9000, "too long", id="a line without an end"),
    pytest.param(CHUNKED + b"1\r\nX\r\n" * 500_000, "framing", id="3 MB of 6-byte chunks"),
    pytest.param(CHUNKED + b"0\r\n" + b"a: b\r\n" * 99_999, "framing", id="trailers without end"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01", "without TLS", id="TLS"),
]


@pytest.mark.parametrize(("request_bytes", "message"), REFUSED)
def test_what_is_not_clear_gets_400_and_a_closed_connection(echo, port, request_bytes, message):
    with RawClient(port, request_bytes) as client:
        answer = client.answer()
        assert answer.status == 400
        assert answer.headers["Content-Type"] == "application/json"
        assert message in answer.json["message"]
        assert client.is_closed()
    assert echo.seen == []


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(
            POST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
            id="a proxy counts, the server reads chunks",
        ),
        pytest.param(
            POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + HIDDEN,
            id="a proxy reads chunks, the server counts",
        ),
        pytest.param(
            POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n" + HIDDEN,
            id="one of two encodings is odd",
        ),
        pytest.param(
            b"POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
            id="chunks in HTTP/1.0",
        ),
        pytest.param(
            b"POST /a HTTP/1.2\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + HIDDEN,
            id="chunks in a version that nobody knows",
        ),
        pytest.param(
            CHUNKED + b"%x\n\r\n" % (len(HIDDEN) + 7) + b"0\r\n\r\n" + HIDDEN,
            id="a bare line feed after the size of a chunk",
        ),
    ],
)
def test_no_request_hides_in_another(echo, port, request_bytes):
    with RawClient(port, request_bytes) as client:
        assert client.answer().status == 400
        assert client.is_closed()
    assert echo.seen == []


def test_a_request_before_a_malformed_one_is_served(echo, port):
    with RawClient(port, GET + b"\r\n" + b"GET /b HTTP/1.1\r\n\r\n" + HIDDEN) as client:
        assert client.answer().json["path"] == "/a"
        assert client.answer().status == 400
        assert client.is_closed()
    assert echo.seen == ["/a"]


def test_a_body_waits_for_100_continue(port):
    with RawClient(port, POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n") as client:
        assert client.answer().status == 100
        client.socket.sendall(b"hello")
        assert client.answer().json["body"] == "hello"


@pytest.mark.parametrize(
    "expect", [pytest.param(b"", id="plain"), pytest.param(b"Expect: 100-continue\r\n", id="asked")]
)
def test_a_body_over_the_limit_is_refused_before_it_is_sent(echo, port, expect):
    with RawClient(port, POST + b"Content-Length: 1048577\r\n" + expect + b"\r\n") as client:
        answer = client.answer()
        assert answer.status == 413
        assert "larger than 1 MiB" in answer.json["message"]
        assert "max_body_mib" in answer.json["message"]
        assert client.is_closed()
    assert echo.seen == []


def test_a_body_of_the_limit_is_taken(port):
    with RawClient(port, POST + b"Content-Length: 1048576\r\n\r\n" + bytes(1 << 20)) as client:
        assert len(client.answer().json["body"]) == 1 << 20


def test_a_chunked_body_over_the_limit_is_refused(port):
    chunk = b"10000\r\n" + bytes(1 << 16) + b"\r\n"
    with RawClient(port, CHUNKED + chunk * 16) as client:
        assert client.answer().status == 413
        assert client.is_closed()


def test_many_small_chunks_are_a_body_too(port):
    with RawClient(
        port, CHUNKED + (b"40\r\n" + b"x" * 64 + b"\r\n") * 10_000 + b"0\r\n\r\n"
    ) as client:
        assert client.answer().json["body"] == "x" * 640_000


def test_who_is_still_sending_sees_the_answer_and_no_reset(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/a", bytes(40 << 20))
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(
    "options",
    [
        pytest.param([], id="with Expect"),
        pytest.param(["-H", "Expect:"], id="without Expect"),
        pytest.param(["-H", "Transfer-Encoding: chunked"], id="chunked"),
    ],
)
def test_curl_shows_why_a_body_is_refused(port, tmp_path, options):
    large = tmp_path / "large"
    large.write_bytes(bytes(40 << 20))
    done = subprocess.run(
        ["curl", "-sS", "--data-binary", f"@{large}", *options, f"http://127.0.0.1:{port}/a"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "larger than 1 MiB" in json.loads(done.stdout)["message"]


def test_a_header_over_the_limit_is_refused(port):
    with RawClient(port, GET + b"X: " + b"a" * 40_000) as client:
        answer = client.answer()
        assert answer.status == 431
        assert "larger than 32 KiB" in answer.json["message"]
        assert client.is_closed()


def test_a_defect_in_the_application_is_a_json_answer_too(port):
    with RawClient(port, b"GET /fails HTTP/1.1\r\nHost: box\r\n\r\n") as client:
        answer = client.answer()
        assert (answer.status, answer.json) == (500, {"message": "Internal error."})


def test_the_head_alone_can_be_judged():
    assert framing_problem(b"GET / HTTP/1.1\r\nHost: box") is None
    assert framing_problem(b"GET / HTTP/1.1") == "HTTP/1.1 needs a Host header; send one."
