"""Pictures by URL: what is sent, what comes back, and limits. Loopback only."""

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest

from edge_server.errors import BusyError, ImageError
from tests.edge_server.images.loopback import (
    PICTURE,
    PUBLIC,
    Site,
    fetcher,
    raw,
    redirect,
    refusal,
    send,
    serving,
)

# --- what is asked of a server ---


def test_the_body_of_an_allowed_address_is_fetched(site):
    assert fetcher().fetch(site.url()) == PICTURE


def test_one_fetcher_serves_many_threads(site):
    shared, bodies = fetcher(max_at_once=8), []
    threads = [
        threading.Thread(target=lambda: bodies.append(shared.fetch(site.url()))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bodies == [PICTURE] * 8


@pytest.mark.parametrize(
    ("path", "requested"),
    [
        pytest.param("", "/", id="no path"),
        pytest.param("?a=b", "/?a=b", id="query only"),
        pytest.param("/a%20b?q=%2F&r=1#part", "/a%20b?q=%2F&r=1", id="escapes kept, fragment cut"),
        pytest.param("/caf\u00e9 1", "/caf%C3%A9%201", id="other characters escaped"),
    ],
)
def test_the_path_is_requested_as_given(site, path, requested):
    site.pages |= dict.fromkeys(("/", "/a%20b", "/caf%C3%A9%201"), send(PICTURE))
    assert fetcher().fetch(site.url(path)) == PICTURE
    assert [path for path, _ in site.requests] == [requested]


def test_a_request_names_its_host_and_wants_no_compression(site):
    fetcher().fetch(site.url())
    ((_, headers),) = site.requests
    assert headers["host"] == f"127.0.0.1:{site.port}"
    assert headers["accept-encoding"] == "identity"
    assert "authorization" not in headers


def test_a_chunked_body_is_put_together(site):
    site.pages["/picture"] = raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    )
    assert fetcher().fetch(site.url()) == b"abcde"


def test_proxies_of_the_environment_are_ignored(site, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetcher().fetch(site.url()) == PICTURE


# --- limits ---


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(send(PICTURE), id="announced"),
        pytest.param(send(PICTURE, Content_Length=None), id="not announced"),
        pytest.param(
            raw(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                b"2800\r\n%s\r\n" % PICTURE,
                b"0\r\n\r\n",
            ),
            id="chunked",
        ),
    ],
)
def test_a_file_too_large_is_refused(site, answer):
    site.pages["/picture"] = answer
    limit = len(PICTURE)
    assert fetcher(max_bytes=limit).fetch(site.url()) == PICTURE
    sentence = refusal(site.url(), max_bytes=limit - 1)
    assert f"'127.0.0.1': the file is larger than {limit - 1} bytes" in sentence


def test_an_announced_size_is_refused_before_the_body_is_read(site):
    # The body never comes: reading it would run into the time limit instead.
    site.pages["/picture"] = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", b"")
    assert "larger than" in refusal(site.url())


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(raw(b"", pause_s=0.05), id="silence"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\n", b"X", pause_s=0.05), id="header in drips"),
        pytest.param(raw(b"HTTP/1.1 100 Go\r\n\r\n", pause_s=0.05), id="endless interim answers"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\n\r\n", b"x", pause_s=0.05), id="body in drips"),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"x", pause_s=0.05),
            id="announced body in drips",
        ),
        pytest.param(
            raw(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                b"1\r\nx\r\n",
                pause_s=0.05,
            ),
            id="chunks in drips",
        ),
    ],
)
def test_a_slow_server_meets_the_deadline(site, answer):
    site.pages["/picture"] = answer
    began = time.monotonic()
    sentence = refusal(site.url(), timeout_s=0.3)
    assert sentence == "The picture cannot be fetched from '127.0.0.1': it took longer than 0.3 s."
    assert time.monotonic() - began < 2


def test_the_deadline_covers_all_redirects_together(site):
    def slowly(handler):
        handler.server.closing.wait(0.15)
        redirect("/slow")(handler)

    site.pages["/slow"] = slowly
    assert "longer than 0.3 s" in refusal(site.url("/slow"), timeout_s=0.3, max_redirects=50)
    assert len(site.requests) <= 3


def test_a_silent_tls_server_meets_the_deadline():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert "longer than 0.2 s" in refusal(f"https://127.0.0.1:{port}/", timeout_s=0.2)


# --- how many at once ---


def test_one_fetch_more_than_permitted_is_refused_at_once(site):
    arrived, leave = threading.Event(), threading.Event()

    def wait(handler):
        arrived.set()
        leave.wait(30)
        send(PICTURE)(handler)

    site.pages["/slow"] = wait
    shared, bodies = fetcher(max_at_once=1, timeout_s=30), []
    slow = threading.Thread(target=lambda: bodies.append(shared.fetch(site.url("/slow"))))
    slow.start()
    assert arrived.wait(30)
    with pytest.raises(BusyError, match="being fetched by URL"):
        shared.fetch(site.url())
    leave.set()
    slow.join()
    assert bodies == [PICTURE]
    assert shared.fetch(site.url()) == PICTURE, "there is room again"


@pytest.mark.parametrize("path", ["/picture", "/missing"])
def test_a_fetch_makes_room_however_it_ends(site, path):
    site.pages["/missing"] = send(b"", 404)
    shared = fetcher(max_at_once=1)
    for _ in range(3):
        with contextlib.suppress(ImageError):
            shared.fetch(site.url(path))
    assert shared.fetch(site.url()) == PICTURE


@pytest.fixture
def slow_names(monkeypatch):
    """A resolver that answers loopback, but not before the event is set."""
    event = threading.Event()

    def look_up(host, port, *args, **kwargs):
        event.wait(30)
        return [(socket.AF_INET, 1, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield event
    event.set()
    for thread in threading.enumerate():
        if thread.name == "look-up":
            thread.join()


def test_a_slow_look_up_meets_the_deadline(slow_names, connections):
    assert "longer than 0.2 s" in refusal("http://camera.example/", timeout_s=0.2)
    assert connections == []


def test_look_ups_left_behind_are_bounded(site, slow_names):
    shared = fetcher(max_at_once=2, timeout_s=0.2)
    for _ in range(2):
        with pytest.raises(ImageError, match="longer than"):
            shared.fetch(site.url())
    with pytest.raises(BusyError):
        shared.fetch(site.url())
    assert sum(thread.name == "look-up" for thread in threading.enumerate()) == 2
    slow_names.set()
    for thread in threading.enumerate():
        if thread.name == "look-up":
            thread.join()
    assert shared.fetch(site.url()) == PICTURE


# --- answers that are no picture ---


@pytest.mark.parametrize("status", [201, 204, 304, 401, 404, 500])
def test_any_status_but_200_is_refused(site, status):
    site.pages["/picture"] = send(b"", status)
    assert f"'127.0.0.1': it answered with status {status}" in refusal(site.url())


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(raw(b"SSH-2.0-OpenSSH_9.6\r\n"), "not valid HTTP", id="another protocol"),
        pytest.param(raw(), "not valid HTTP", id="nothing"),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), "3 of 9 bytes", id="cut off"
        ),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc"),
            "breaks off",
            id="chunk cut off",
        ),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n"),
            "not valid HTTP",
            id="endless headers",
        ),
    ],
)
def test_an_answer_that_breaks_the_protocol_is_refused_and_not_quoted(site, answer, reason):
    site.pages["/picture"] = answer
    sentence = refusal(site.url())
    assert reason in sentence
    assert "SSH" not in sentence


def test_a_stream_is_refused_with_advice(site):
    kind = "multipart/x-mixed-replace; boundary=frame"
    site.pages["/picture"] = send(PICTURE, Content_Type=kind, Content_Length=None)
    sentence = refusal(site.url())
    assert "a stream (MJPEG)" in sentence
    assert "URL for a snapshot" in sentence


def test_a_closed_port_is_an_image_error():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert "'127.0.0.1': Connection refused" in refusal(f"http://127.0.0.1:{port}/")


def test_a_name_that_does_not_resolve_is_an_image_error(monkeypatch):
    def fail(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert "'nowhere.example': Name or service not known" in refusal("http://nowhere.example/")


# --- TLS ---


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for camera.example that signs itself, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = [openssl, "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=camera.example"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-addext", "subjectAltName=DNS:camera.example"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


@pytest.fixture
def secure_site(certificate):
    """A TLS server; ``asked`` holds the names that clients asked for."""
    site = Site()
    site.asked = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.sni_callback = lambda sock, name, context: site.asked.append(name)
    site.socket = context.wrap_socket(site.socket, server_side=True, do_handshake_on_connect=False)
    with serving(site) as running:
        yield running


def test_https_checks_the_certificate_by_name_at_the_checked_address(
    secure_site, certificate, names, monkeypatch, connections
):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    names["camera.example"] = [["127.0.0.1"], [PUBLIC]]
    assert fetcher().fetch(f"https://camera.example:{secure_site.port}/picture") == PICTURE
    assert connections == ["127.0.0.1"]
    assert secure_site.asked == ["camera.example"]
    assert secure_site.requests[0][1]["host"] == f"camera.example:{secure_site.port}"


@pytest.mark.parametrize(
    ("host", "trusted"),
    [
        pytest.param("other.example", True, id="certificate of another name"),
        pytest.param("camera.example", False, id="certificate nobody vouches for"),
    ],
)
def test_https_refuses_a_certificate_that_does_not_fit(
    secure_site, certificate, names, monkeypatch, host, trusted
):
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    names[host] = [["127.0.0.1"]]
    sentence = refusal(f"https://{host}:{secure_site.port}/picture")
    assert f"'{host}'" in sentence
    assert "certificate verify failed" in sentence
    assert secure_site.requests == []
