"""Pictures by URL: what is permitted, what is sent, and every limit. Loopback only."""

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

import pytest

from edge_server.errors import ImageError, SettingsError
from edge_server.images import fetch
from edge_server.images.fetch import UrlFetcher

PICTURE = bytes(range(256)) * 40
PUBLIC = "93.184.216.34"
LOOPBACK = ("127.0.0.1", "::1")


class Site(ThreadingHTTPServer):
    """A loopback server: ``pages`` maps a path to what answers it; ``requests`` keeps all."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, Callable[[Handler], None]] = {"/picture": send(PICTURE)}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.closing = threading.Event()

    @property
    def port(self) -> int:
        return self.server_address[1]

    def url(self, path="/picture", host="127.0.0.1", credentials=""):
        return f"http://{credentials}{host}:{self.port}{path}"

    def handle_error(self, request, client_address):
        """Clients that hang up are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((self.path, headers))
        self.server.pages[self.path.partition("?")[0]](self)

    def log_message(self, *args):
        """Silent."""


def send(body, status=200, **headers):
    def answer(handler):
        handler.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            if value is not None:
                handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def redirect(location, status=302):
    return send(b"", status, Location=location)


def raw(*pieces, pause_s=0.0):
    """Write bytes as they are; with ``pause_s`` the last piece is repeated for ever."""

    def answer(handler):
        for piece in pieces:
            handler.wfile.write(piece)
        while pause_s and not handler.server.closing.wait(pause_s):
            handler.wfile.write(pieces[-1])

    return answer


@contextlib.contextmanager
def serving(site):
    thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        site.closing.set()
        site.shutdown()
        thread.join()
        site.server_close()


@pytest.fixture
def site():
    with serving(Site()) as running:
        yield running


@pytest.fixture
def other_site():
    with serving(Site()) as running:
        yield running


@pytest.fixture(autouse=True)
def connections(monkeypatch):
    """Every address connected to. Nothing but loopback is really tried."""
    tried = []
    connect = socket.socket.connect

    def connect_to_loopback(self, address):
        tried.append(address[0])
        if not ip_address(address[0]).is_loopback:
            raise ConnectionRefusedError(111, "Connection refused")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_to_loopback)
    return tried


@pytest.fixture
def names(monkeypatch):
    """Names and the addresses of each look-up in turn; the last answer is repeated."""
    table: dict[str, list[list[str]]] = {}

    def look_up(host, port, *args, **kwargs):
        answers = table[host]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, 1, 6, "", (address, port))
            for address in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return table


def fetcher(url_input="any", allow=("127.0.0.1",), max_bytes=10**6, timeout_s=5.0, **limits):
    return UrlFetcher(
        url_input=url_input, allow=allow, max_bytes=max_bytes, timeout_s=timeout_s, **limits
    )


def refusal(url, **policy):
    """The sentence with which ``url`` is refused."""
    with pytest.raises(ImageError) as caught:
        fetcher(**policy).fetch(url)
    return str(caught.value)


# --- what is asked of a server ---


def test_the_body_of_an_allowed_address_is_fetched(site):
    assert fetcher().fetch(site.url()) == PICTURE


def test_one_fetcher_serves_many_threads(site):
    shared, bodies = fetcher(), []
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


# --- which addresses are permitted ---

FORBIDDEN_HOSTS = [
    pytest.param("127.0.0.1", id="loopback"),
    pytest.param("127.9.8.7", id="loopback network"),
    pytest.param("2130706433", id="decimal loopback"),
    pytest.param("0x7f000001", id="hexadecimal loopback"),
    pytest.param("0177.0.0.1", id="octal loopback"),
    pytest.param("127.1", id="short loopback"),
    pytest.param("\u2460\u2461\u2466.0.0.1", id="loopback in circled digits"),
    pytest.param("127\u30020.0.1", id="loopback with an ideographic full stop"),
    pytest.param("localhost", id="localhost"),
    pytest.param("LOCALHOST", id="localhost in capitals"),
    pytest.param("0.0.0.0", id="unspecified"),  # noqa: S104 - the subject of the test
    pytest.param("0", id="unspecified in short"),
    pytest.param("0.1.2.3", id="this network"),
    pytest.param("169.254.169.254", id="metadata service"),
    pytest.param("2852039166", id="decimal metadata service"),
    pytest.param("100.100.100.200", id="another metadata service"),
    pytest.param("[fd00:ec2::254]", id="metadata service of IPv6"),
    pytest.param("169.254.1.1", id="link-local"),
    pytest.param("224.0.0.251", id="multicast"),
    pytest.param("255.255.255.255", id="broadcast"),
    pytest.param("240.0.0.1", id="reserved"),
    pytest.param("[::1]", id="loopback of IPv6"),
    pytest.param("[0:0:0:0:0:0:0:1]", id="loopback of IPv6 in full"),
    pytest.param("[::]", id="unspecified of IPv6"),
    pytest.param("[fe80::1]", id="link-local of IPv6"),
    pytest.param("[ff02::1]", id="multicast of IPv6"),
    pytest.param("[fec0::1]", id="site-local of IPv6"),
    pytest.param("[::ffff:127.0.0.1]", id="mapped loopback"),
    pytest.param("[::ffff:a9fe:a9fe]", id="mapped metadata service"),
    pytest.param("[::127.0.0.1]", id="compatible loopback"),
    pytest.param("[64:ff9b::7f00:1]", id="loopback behind NAT64"),
    pytest.param("[64:ff9b:1::7f00:1]", id="loopback behind local NAT64"),
    pytest.param("[2002:7f00:1::]", id="loopback behind 6to4"),
    pytest.param("[2001:0:5db8:d822:0:0:80ff:fffe]", id="loopback behind Teredo"),
]


@pytest.mark.parametrize("host", FORBIDDEN_HOSTS)
@pytest.mark.parametrize("url_input", ["any", "private"])
def test_special_addresses_are_refused_without_connecting(host, url_input, connections):
    sentence = refusal(f"http://{host}:8080/", url_input=url_input, allow=())
    assert "Pictures are not fetched from" in sentence
    assert "url_allow" in sentence
    assert connections == []


@pytest.mark.parametrize(
    ("address", "any_", "private"),
    [
        pytest.param("10.1.2.3", True, True, id="private"),
        pytest.param("192.168.1.20", True, True, id="home"),
        pytest.param("100.64.0.9", True, True, id="carrier or overlay network"),
        pytest.param("fd12::5", True, True, id="unique local of IPv6"),
        pytest.param("::ffff:10.1.2.3", True, True, id="mapped private"),
        pytest.param(PUBLIC, True, False, id="public"),
        pytest.param("2606:2800:220:1::1", True, False, id="public of IPv6"),
        pytest.param(f"::ffff:{PUBLIC}", True, False, id="mapped public"),
        pytest.param("64:ff9b::5db8:d822", True, False, id="public behind NAT64"),
    ],
)
@pytest.mark.parametrize("url_input", ["any", "private"])
def test_private_networks_and_the_internet_are_told_apart(
    address, any_, private, url_input, names, connections
):
    names["camera.example"] = [[address]]
    sentence = refusal("http://camera.example/", url_input=url_input, allow=())
    if private if url_input == "private" else any_:
        assert sentence == (
            "The picture cannot be fetched from 'camera.example': Connection refused."
        )
        assert connections == [address]
    else:
        assert "is public, and this server fetches from private networks only" in sentence
        assert connections == []


@pytest.mark.parametrize(
    "addresses", [[PUBLIC, "127.0.0.1"], ["127.0.0.1", PUBLIC], [PUBLIC, "::1"]]
)
def test_a_name_is_refused_when_any_of_its_addresses_is(names, addresses, connections):
    names["mixed.example"] = [addresses]
    assert "is this machine" in refusal("http://mixed.example/", allow=())
    assert connections == []


def test_every_address_of_a_name_is_tried_until_one_answers(site, names, connections):
    names["camera.example"] = [["10.1.1.1", "127.0.0.1"]]
    url = site.url(host="camera.example")
    assert fetcher(allow=("camera.example",)).fetch(url) == PICTURE
    assert connections == ["10.1.1.1", "127.0.0.1"]


def test_the_connection_goes_to_the_checked_address_when_the_name_changes(names, connections):
    names["rebind.example"] = [[PUBLIC], ["127.0.0.1"]]
    assert "Connection refused" in refusal("http://rebind.example/", allow=())
    assert connections == [PUBLIC]


def test_a_name_is_resolved_once_and_sent_as_host(site, names):
    names["camera.example"] = [["127.0.0.1"], [PUBLIC]]
    assert fetcher().fetch(site.url(host="camera.example")) == PICTURE
    assert site.requests[0][1]["host"] == f"camera.example:{site.port}"


def test_the_own_address_on_the_network_is_refused_before_anything_is_sent(site, monkeypatch):
    # Stands for an address such as 192.168.1.5 that this machine has itself.
    monkeypatch.setattr(fetch, "_REFUSED_NETWORKS", {})
    assert "its address 127.0.0.1 is this machine" in refusal(site.url(), allow=())
    assert site.requests == []


@pytest.mark.parametrize(
    ("host", "allow"),
    [
        pytest.param("127.0.0.1", "127.0.0.1", id="address"),
        pytest.param("127.0.0.1", "127.0.0.0/8", id="network"),
        pytest.param("127.0.0.1", "127.0.0.9/8", id="network with host bits"),
        pytest.param("2130706433", "127.0.0.1", id="address written as a number"),
        pytest.param("camera.example", "127.0.0.1", id="name with an allowed address"),
        pytest.param("camera.example", "Camera.Example", id="name in any case"),
    ],
)
def test_what_the_operator_allows_is_fetched(site, names, host, allow):
    names |= dict.fromkeys(("camera.example", "127.0.0.1", "2130706433"), [["127.0.0.1"]])
    for url_input in ("any", "private"):
        allowing = fetcher(url_input=url_input, allow=("10.9.9.9", allow))
        assert allowing.fetch(site.url(host=host)) == PICTURE


@pytest.mark.parametrize("allow", ["example", "other.example", "127.0.0.2", "camera.example.org"])
def test_an_entry_for_another_host_allows_nothing(names, allow):
    names["camera.example"] = [["127.0.0.1"]]
    assert "is this machine" in refusal("http://camera.example/", allow=(allow,))


@pytest.mark.parametrize(
    "entry", ["", "10.0.0.0/33", "http://camera", "camera:80", "user@camera", "two words"]
)
def test_an_entry_that_can_never_match_is_a_settings_error(entry):
    with pytest.raises(SettingsError, match="url_allow has"):
        fetcher(allow=(entry,))


def test_switched_off_means_off_and_says_how_to_switch_on(site):
    assert "url_input" in refusal(site.url(), url_input="off")
    assert site.requests == []


# --- malformed URLs ---


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://good.example\\@127.0.0.1/", id="backslash"),
        pytest.param("http://127.0.0.1/\r\nHost: evil", id="line break"),
        pytest.param("http://127.0.0\t.1/", id="tab"),
        pytest.param("http://127.0.0.1/\x00", id="null"),
        pytest.param("http://127.0.0.1/\x85", id="control character beyond ASCII"),
        pytest.param("http://127.0.0.1/\ud800", id="lone surrogate"),
        pytest.param("http://a:\ud800@127.0.0.1/", id="lone surrogate in credentials"),
    ],
)
def test_unsafe_characters_are_refused(url, connections):
    assert "backslash or a control character" in refusal(url)
    assert connections == []


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("file:///etc/passwd", id="file"),
        pytest.param("ftp://127.0.0.1/", id="ftp"),
        pytest.param("gopher://127.0.0.1/", id="gopher"),
        pytest.param("data:image/png;base64,AAAA", id="data"),
        pytest.param("//127.0.0.1/", id="no scheme"),
        pytest.param("picture.jpg", id="relative"),
        pytest.param("http:///picture", id="no host"),
        pytest.param("http://user:secret@/", id="credentials without host"),
        pytest.param("", id="empty"),
    ],
)
def test_other_schemes_and_missing_hosts_are_refused(url, connections):
    assert "must begin with http:// or https:// and a host" in refusal(url)
    assert connections == []


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://127.0.0.1:99999/", id="port too large"),
        pytest.param("http://user:se/cret@127.0.0.1/", id="slash in the password"),
        pytest.param("http://[::1/", id="open bracket"),
        pytest.param("http://a..b/", id="empty label"),
        pytest.param(f"http://{'a' * 64}.example/", id="label too long"),
    ],
)
def test_malformed_urls_are_refused_without_quoting_them(url, connections):
    assert refusal(url) == "The picture's URL is malformed."
    assert connections == []


# --- redirects ---


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(site, status):
    site.pages["/old"] = redirect("/picture", status)
    assert fetcher().fetch(site.url("/old")) == PICTURE


def test_a_redirect_relative_to_its_folder_is_followed(site):
    site.pages |= {"/a/old": redirect("../b/new?x=1"), "/b/new": send(PICTURE)}
    assert fetcher().fetch(site.url("/a/old")) == PICTURE
    assert site.requests[-1][0] == "/b/new?x=1"


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        pytest.param("http://169.254.169.254/latest/", "link-local", id="metadata service"),
        pytest.param("//[::1]/", "this machine", id="loopback without scheme"),
        pytest.param("http://2130706434/", "this machine", id="decimal loopback"),
        pytest.param("file:///etc/passwd", "must begin with http", id="file"),
        pytest.param("http://good.example\\@127.0.0.1/", "backslash", id="backslash"),
        pytest.param("http://[::1/", "malformed", id="malformed"),
        pytest.param("", "without saying where", id="empty"),
    ],
)
def test_a_redirect_passes_the_same_checks(site, location, reason, connections):
    site.pages["/old"] = redirect(location)
    assert reason in refusal(site.url("/old"))
    assert connections == ["127.0.0.1"]


def test_a_redirect_from_private_networks_to_the_internet_is_refused(site, names):
    names |= {"127.0.0.1": [["127.0.0.1"]], "public.example": [[PUBLIC]]}
    site.pages["/old"] = redirect("https://public.example/")
    assert "'public.example'" in refusal(site.url("/old"), url_input="private")


def test_a_redirect_loop_ends(site):
    site.pages["/loop"] = redirect("/loop")
    sentence = refusal(site.url("/loop"), max_redirects=3)
    assert "'127.0.0.1': more than 3 redirects" in sentence
    assert len(site.requests) == 4


def test_as_many_redirects_as_permitted_are_followed(site):
    site.pages |= {f"/{n}": redirect(f"/{n - 1}") for n in (1, 2, 3)} | {"/0": send(PICTURE)}
    assert fetcher(max_redirects=3).fetch(site.url("/3")) == PICTURE
    assert "redirects" in refusal(site.url("/3"), max_redirects=2)


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


def test_a_closed_port_is_an_image_error():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert "'127.0.0.1': Connection refused" in refusal(f"http://127.0.0.1:{port}/")


def test_a_name_that_does_not_resolve_is_an_image_error(monkeypatch):
    def fail(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert "'nowhere.example': Name or service not known" in refusal("http://nowhere.example/")


# --- credentials ---


def test_credentials_of_the_url_are_sent_as_basic_authorization(site):
    fetcher().fetch(site.url(credentials="us%40er:p%3Aw@"))
    assert site.requests[0][1]["authorization"] == "Basic dXNAZXI6cDp3"


def test_credentials_stay_on_a_redirect_within_the_origin(site):
    site.pages["/old"] = redirect(site.url())
    fetcher().fetch(site.url("/old", credentials="user:secret@"))
    assert [headers["authorization"] for _, headers in site.requests] == [
        "Basic dXNlcjpzZWNyZXQ="
    ] * 2


def test_credentials_do_not_follow_a_redirect_to_another_origin(site, other_site):
    site.pages["/old"] = redirect(other_site.url())
    assert fetcher().fetch(site.url("/old", credentials="user:secret@")) == PICTURE
    assert "authorization" not in other_site.requests[0][1]


@pytest.mark.parametrize("path", ["/missing", "/loop", "/slow", "/cut", "/away"])
def test_no_error_shows_credentials(site, path):
    site.pages |= {
        "/missing": send(b"", 404),
        "/loop": redirect("/loop"),
        "/slow": raw(b"", pause_s=0.05),
        "/cut": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
        "/away": redirect("http://user:secret@127.0.0.2/"),
    }
    sentence = refusal(site.url(path, credentials="user:secret@"), timeout_s=0.2)
    assert "127.0.0." in sentence
    assert "secret" not in sentence
    assert "user" not in sentence


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
