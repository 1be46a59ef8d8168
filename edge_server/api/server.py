"""The running server: everything put together, behind waitress."""

from __future__ import annotations

import errno
import signal
import socket
import threading
from collections.abc import Callable
from ipaddress import ip_address
from types import FrameType

from waitress.server import create_server

from edge_server import __version__
from edge_server.api.access import Access
from edge_server.api.app import create_app
from edge_server.api.status import NAME
from edge_server.appliance import MEBI, Appliance
from edge_server.errors import SettingsError
from edge_server.settings import Settings

# A picture below this size stays in memory; a larger body is spooled to a temporary file.
_BODY_IN_MEMORY = 4 * MEBI
# waitress reads 8 KiB at a time by default: 500 system calls for one picture.
_RECEIVE_BYTES = 256 * 1024
_HEADER_BYTES = 32 * 1024
# A connection silent for so long is closed. Cameras keep theirs open between two pictures.
_SILENCE_S = 60
_CONNECTIONS = 400


def serve(settings: Settings, announce: Callable[[str], None]) -> None:
    """Run the server until SIGTERM or SIGINT.

    Args:
        settings: the whole configuration.
        announce: receives one line when the server listens.

    Raises:
        SettingsError: the address cannot be listened on.
    """
    appliance = Appliance(settings)
    appliance.store.sweep()
    ready = threading.Event()
    listener = _listen(settings.host, settings.port)
    app = create_app(
        store=appliance.store,
        pool=appliance.pool,
        reader=appliance.reader,
        ready=ready,
        access=Access(
            key=settings.key,
            key_for=settings.key_for,
            allow_origins=settings.allow_origins,
            allowed_hosts=settings.allowed_hosts,
            loopback=ip_address(listener.getsockname()[0]).is_loopback,
        ),
        max_images=settings.max_images,
    )
    server = create_server(
        app,
        sockets=[listener],
        threads=settings.server_threads,
        max_request_body_size=settings.max_body_mib * MEBI,
        max_request_header_size=_HEADER_BYTES,
        inbuf_overflow=_BODY_IN_MEMORY,
        recv_bytes=_RECEIVE_BYTES,
        channel_timeout=_SILENCE_S,
        connection_limit=_CONNECTIONS,
        asyncore_use_poll=True,  # select() fails above 1024 file descriptors
        expose_tracebacks=False,
        ident=None,
    )
    threading.Thread(
        target=_get_ready, args=(appliance, ready), name="preload", daemon=True
    ).start()
    host, port = listener.getsockname()[:2]
    announce(f"{NAME} {__version__} listening on http://{_in_url(host)}:{port}")
    signal.signal(signal.SIGTERM, _stop)
    server.run()  # returns on SystemExit and KeyboardInterrupt, after the running requests
    server.close()
    appliance.pool.clear()


def _get_ready(appliance: Appliance, ready: threading.Event) -> None:
    try:
        appliance.preload()
    finally:
        ready.set()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise SettingsError(_cannot_listen(host, port, error)) from error


def _cannot_listen(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is in use by another program. "
            "Stop that program, or choose another port with --port."
        )
    return f"Cannot listen on {host} port {port}: {error.strerror or error}."


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)
