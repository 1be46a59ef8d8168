"""A web server on a loopback port that answers as a test says, and fetchers to ask it with."""

import contextlib
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from edge_server.errors import ImageError
from edge_server.images.fetch import UrlFetcher
from edge_server.images.url_policy import UrlPolicy

PICTURE = bytes(range(256)) * 40
PUBLIC = "93.184.216.34"
LIMITS = ("max_redirects", "max_at_once")


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


def fetcher(allow=("127.0.0.1",), max_bytes=10**6, timeout_s=5.0, **settings):
    """A fetcher; ``settings`` are those of its policy, and its limits."""
    limits = {name: settings.pop(name) for name in LIMITS if name in settings}
    policy = UrlPolicy(allow=allow, **settings)
    return UrlFetcher(policy, max_bytes=max_bytes, timeout_s=timeout_s, **limits)


def refusal(url, **settings):
    """The sentence with which ``url`` is refused."""
    with pytest.raises(ImageError) as caught:
        fetcher(**settings).fetch(url)
    return str(caught.value)
