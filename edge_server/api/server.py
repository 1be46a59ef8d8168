"""The running server: everything put together, behind waitress."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import resource
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from types import FrameType

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.task import ThreadedTaskDispatcher

from edge_server import __version__
from edge_server.api.access import Access
from edge_server.api.app import create_app
from edge_server.api.connections import TcpListener, UnixListener
from edge_server.api.status import NAME
from edge_server.appliance import MEBI, Appliance
from edge_server.errors import SettingsError
from edge_server.ops.restarts import EXIT_STATUS, is_supervised, may_restart
from edge_server.settings import Settings

log = logging.getLogger(__name__)


# A picture below this size stays in memory; a larger body is spooled to a temporary file.
_BODY_IN_MEMORY = 4 * MEBI
# waitress reads 8 KiB at a time by default: 500 system calls for one picture.
_RECEIVE_BYTES = 256 * 1024
_HEADER_BYTES = 32 * 1024
# Far above what ``connections`` lets wait for its clients: reached only by requests in work.
_CONNECTIONS = 1024
# A connection, and a temporary file for its body; models and libraries need some too.
_OPEN_FILES = 4096
# Options of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_KEPT_BYTES = 16 * MEBI


def serve(settings: Settings, announce: Callable[[str], None]) -> int:
    """Run the server until SIGTERM or SIGINT, or until the GPU is lost and a restart helps.

    Args:
        settings: the whole configuration.
        announce: receives one line for each socket when the server listens.

    Returns:
        the exit status: 0, or the one that asks for a restart.

    Raises:
        SettingsError: the address or the Unix socket cannot be listened on.
    """
    restart = threading.Event()
    appliance = Appliance(settings, lost=partial(_ask_for_restart, settings.data_dir, restart))
    appliance.store.sweep()
    _allow_open_files()
    _reuse_memory()
    # One line for each request that waits for a thread: a log that clients could fill.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    ready = threading.Event()
    sockets = _listen_everywhere(settings)
    app = create_app(
        store=appliance.store,
        pool=appliance.pool,
        upgrades=appliance.upgrader.state,
        reader=appliance.reader,
        ready=ready,
        access=Access(
            key=settings.key,
            key_for=settings.key_for,
            allow_origins=settings.allow_origins,
            allowed_hosts=settings.allowed_hosts,
            loopback=ip_address(sockets[0].getsockname()[0]).is_loopback,
        ),
        max_images=settings.max_images,
    )
    server = make_server(app, sockets, settings)
    appliance.upgrader.start()
    threading.Thread(
        target=_get_ready, args=(appliance, ready), name="preload", daemon=True
    ).start()
    for listener in sockets:
        announce(f"{NAME} {__version__} listening on {_place(listener)}")
    signal.signal(signal.SIGTERM, _stop)
    server.run()  # returns on SystemExit and KeyboardInterrupt, after the running requests
    if settings.unix_socket:
        Path(settings.unix_socket).unlink(missing_ok=True)
    wasyncore.close_all(server._map)
    appliance.upgrader.close()
    appliance.pool.clear()
    return EXIT_STATUS if restart.is_set() else 0


def make_server(app: object, sockets: Sequence[socket.socket], settings: Settings) -> TcpListener:
    """Serve ``app`` on every socket, with one loop and one set of threads.

    Returns:
        the listener on the first socket, whose ``run`` serves all of them.
    """
    adjustments = Adjustments(
        threads=settings.server_threads,
        max_request_body_size=settings.max_body_mib * MEBI + 1,  # waitress refuses from here on
        max_request_header_size=_HEADER_BYTES,
        inbuf_overflow=_BODY_IN_MEMORY,
        recv_bytes=_RECEIVE_BYTES,
        connection_limit=_CONNECTIONS,
        asyncore_use_poll=True,  # select() fails above 1024 file descriptors
        clear_untrusted_proxy_headers=False,  # ``access`` has to see that a request has them
        expose_tracebacks=False,
        ident=None,
    )
    threads = ThreadedTaskDispatcher()
    threads.set_thread_count(settings.server_threads)
    channels: dict[int, object] = {}
    listeners = [
        (UnixListener if listener.family == socket.AF_UNIX else TcpListener)(
            app,
            channels,
            _sock=listener,
            dispatcher=threads,
            adj=adjustments,
            sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
            bind_socket=False,
        )
        for listener in sockets
    ]
    return listeners[0]


def _ask_for_restart(data_dir: Path, restart: threading.Event) -> None:
    """End when a supervisor starts us again: a process that lost the GPU never gets it back."""
    if is_supervised() and may_restart(data_dir / "state" / "restarts.json"):
        log.warning("ending with status %d, to be started again with the GPU", EXIT_STATUS)
        restart.set()
        os.kill(os.getpid(), signal.SIGTERM)  # running requests are answered first


def _get_ready(appliance: Appliance, ready: threading.Event) -> None:
    try:
        appliance.preload()
    finally:
        ready.set()


def _listen_everywhere(settings: Settings) -> list[socket.socket]:
    tcp = _listen(settings.host, settings.port)
    if not settings.unix_socket:
        return [tcp]
    try:
        return [tcp, _listen_unix(Path(settings.unix_socket))]
    except SettingsError:
        tcp.close()
        raise


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise SettingsError(_cannot_listen(host, port, error)) from error


def _listen_unix(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o117)  # mode 0660: for the user and the group of this process
    try:
        _remove_stale(path)
        listener.bind(str(path))
    except (OSError, SettingsError) as error:
        listener.close()
        if isinstance(error, SettingsError):
            raise
        reason = error.strerror or error
        raise SettingsError(f"Cannot listen on the Unix socket {path}: {reason}.") from error
    finally:
        os.umask(mask)
    return listener


def _remove_stale(path: Path) -> None:
    """Remove the socket of a process that died.

    Raises:
        SettingsError: the path is something else, or a process listens there.
    """
    if not path.exists():
        return
    if not path.is_socket():
        raise SettingsError(f"{path} is not a socket; choose another path with --unix-socket.")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise SettingsError(
        f"The Unix socket {path} is in use by another program. "
        "Stop that program, or choose another path with --unix-socket."
    )


def _allow_open_files() -> None:
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if most == resource.RLIM_INFINITY else min(_OPEN_FILES, most)
    if allowed != resource.RLIM_INFINITY and allowed < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _reuse_memory() -> None:
    """Keep the megabytes of one picture for the next, whichever thread works on it.

    Without this glibc gives them back after each request and has the system clear them again for
    the next one, which takes as long as half of decoding; and it keeps what is left in an arena
    for each thread, hundreds of megabytes together. Other C libraries are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def _cannot_listen(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is in use by another program. "
            "Stop that program, or choose another port with --port."
        )
    return f"Cannot listen on {host} port {port}: {error.strerror or error}."


def _place(listener: socket.socket) -> str:
    address = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return str(address)
    host, port = address[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)
