"""Slow, silent and hostile connections: which are closed, and that others are served."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack

import pytest

from edge_server.api import connections
from tests.edge_server.api.raw import (
    HANG_S,
    RawClient,
    allow_open_files,
    port_of,
    serving,
    wait_for,
)

GET = b"GET /a HTTP/1.1\r\nHost: box\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: box\r\nContent-Length: 100000\r\n\r\n"
LARGE = b"GET /large HTTP/1.1\r\nHost: box\r\n\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nHost: box\r\n\r\n"


class App:
    """Answers at once, with much, or when it is told to."""

    def __init__(self) -> None:
        self.working = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, environ, start_response):
        environ["wsgi.input"].read()
        body = b"answer"
        if environ["PATH_INFO"] == "/large":
            body = bytes(30 << 20)
        if environ["PATH_INFO"] == "/slow":
            self.working.set()
            assert self.go_on.wait(HANG_S)
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]


@pytest.fixture
def app():
    return App()


@pytest.fixture
def server(app):
    with serving(app, server_threads=2) as server:
        yield server


@pytest.fixture
def client(server):
    """Open a connection, send something, return once the server has seen it."""
    with ExitStack() as opened:

        def call(data: bytes = b"") -> RawClient:
            known = set(server.active_channels.values())
            made = opened.enter_context(RawClient(port_of(server)))
            wait_for(lambda: set(server.active_channels.values()) - known, "accepted")
            if data:
                send(server, made, data)
            return made

        yield call


def send(server, client: RawClient, data: bytes) -> None:
    """Send a part of a request and return once the server has it."""
    channel = channel_of(server, client)
    before = channel.held_bytes
    client.socket.sendall(data)
    wait_for(lambda: channel.held_bytes >= before + len(data), "received")


def channel_of(server, client: RawClient) -> connections.Channel:
    address = client.socket.getsockname()
    return next(one for one in server.active_channels.values() if one.addr == address)


def is_served(client: RawClient, request: bytes = GET) -> bool:
    client.socket.sendall(request)
    return client.answer().status == 200


@pytest.mark.parametrize(
    "opening",
    [
        pytest.param(b"", id="silent"),
        pytest.param(GET[:-2], id="half a header"),
        pytest.param(POST + bytes(500), id="half a body"),
    ],
)
def test_1000_half_open_connections_lock_nobody_out(server, client, monkeypatch, opening):
    allow_open_files(4096)
    monkeypatch.setattr(connections, "PATIENCE_S", 1000)
    kept = client()
    assert is_served(kept)
    with ExitStack() as flood:
        for _ in range(1000):
            flood.enter_context(socket.create_connection(("127.0.0.1", port_of(server)))).send(
                opening
            )
        for _ in range(20):
            assert is_served(kept)
            with RawClient(port_of(server)) as new:
                assert is_served(new)
        most = connections.NEWCOMERS + 30
        wait_for(lambda: len(server.active_channels) < most, "the flood evicts itself")


def test_the_newcomer_that_was_silent_longest_gives_way(server, client, monkeypatch):
    monkeypatch.setattr(connections, "NEWCOMERS", 3)
    kept = client()
    assert is_served(kept)
    first, second, third = client(), client(), client()
    send(server, first, GET[:20])
    fourth = client()
    assert second.is_closed()
    assert is_served(first, GET[20:])
    assert all(map(is_served, (third, fourth, kept)))


def test_the_kept_connection_that_was_silent_longest_gives_way(client, monkeypatch):
    monkeypatch.setattr(connections, "KEPT", 2)
    first, second = client(), client()
    assert all(map(is_served, (first, second, first)))
    third = client()
    assert is_served(third)
    assert second.is_closed()
    assert all(map(is_served, (first, third)))


def test_a_request_in_work_keeps_its_connection(app, client, monkeypatch):
    monkeypatch.setattr(connections, "NEWCOMERS", 1)
    monkeypatch.setattr(connections, "PATIENCE_S", 0.1)
    busy = client()
    busy.socket.sendall(SLOW)
    assert app.working.wait(HANG_S)
    silent = [client() for _ in range(5)]
    assert all(one.is_closed() for one in silent)
    app.go_on.set()
    assert busy.answer().status == 200


def test_bodies_that_do_not_come_whole_are_bounded_together(server, client, monkeypatch):
    monkeypatch.setattr(connections, "HELD_BYTES", 150_000)
    kept = client()
    assert is_served(kept)
    first, second, third = (client(POST + bytes(60_000)) for _ in range(3))
    assert first.is_closed()
    assert is_served(second, bytes(40_000))
    assert all(map(is_served, (third, kept), (bytes(40_000), GET)))


@pytest.mark.parametrize(
    ("opening", "more", "status"),
    [
        pytest.param(b"", b"", None, id="silent"),
        pytest.param(b"", b"\r\n\r\n", None, id="empty lines again and again"),
        pytest.param(GET[:20], b"", 408, id="half a header"),
        pytest.param(GET[:20], b"x", 408, id="a header that trickles"),
        pytest.param(POST, b"", 408, id="no body"),
        pytest.param(POST, b"x", 408, id="a body that trickles"),
    ],
)
def test_a_request_that_does_not_come_in_time_ends(client, monkeypatch, opening, more, status):
    monkeypatch.setattr(connections, "PATIENCE_S", 0.5)
    slow = client()
    slow.socket.sendall(opening)
    ended = threading.Event()

    def trickle() -> None:
        while more and not ended.wait(0.1):
            try:
                slow.socket.sendall(more)
            except OSError:
                return

    sender = threading.Thread(target=trickle)
    sender.start()
    try:
        if status is not None:
            answer = slow.answer()
            assert answer.status == status
            assert "KiB a second" in answer.json["message"]
        assert slow.is_closed()
    finally:
        ended.set()
        sender.join()


def test_a_long_body_that_keeps_coming_is_taken(client, monkeypatch):
    monkeypatch.setattr(connections, "PATIENCE_S", 0.5)
    steady = client(POST)
    for _ in range(25):
        steady.socket.sendall(bytes(4000))
        time.sleep(0.1)
    assert steady.answer().status == 200


def test_a_camera_keeps_its_connection_between_two_pictures(client, monkeypatch):
    monkeypatch.setattr(connections, "PATIENCE_S", 0.1)
    camera = client()
    assert is_served(camera)
    time.sleep(2.5)  # the server looks once a second
    assert is_served(camera)


def test_who_does_not_read_answers_holds_no_thread_for_long(server, client, monkeypatch):
    monkeypatch.setattr(connections, "PATIENCE_S", 0.5)
    for _ in range(2):  # as many as there are threads
        client().socket.sendall(LARGE * 3)
    wait_for(
        lambda: (
            sum(one.total_outbufs_len > 16 << 20 for one in server.active_channels.values()) == 2
        ),
        "both threads wait",
    )
    assert is_served(client())


def test_requests_sent_ahead_are_read_as_they_are_answered(app, server, client):
    eager = client()
    eager.socket.sendall(SLOW)
    assert app.working.wait(HANG_S)
    sender = threading.Thread(target=eager.socket.sendall, args=(GET * 5000,))
    sender.start()
    app.go_on.set()
    waiting = []
    for _ in range(5001):
        assert eager.answer().status == 200
        waiting.append(len(channel_of(server, eager).requests))
    sender.join()
    assert max(waiting) <= 300


def test_urgent_data_does_not_keep_the_server_awake(server, client, monkeypatch):
    turns = []
    readable = connections.TcpListener.readable
    monkeypatch.setattr(
        connections.TcpListener, "readable", lambda self: turns.append(1) or readable(self)
    )
    hostile = client()
    hostile.socket.send(b"!", socket.MSG_OOB)
    time.sleep(1)
    assert len(turns) < 100
    assert is_served(client())


@pytest.mark.parametrize("years", [pytest.param(-10, id="back"), pytest.param(10, id="forth")])
def test_a_clock_that_is_set_changes_nothing(client, monkeypatch, years):
    monkeypatch.setattr(connections, "PATIENCE_S", 0.5)
    kept, silent = client(), client()
    assert is_served(kept)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + years * 365 * 86400)
    assert silent.is_closed()
    assert is_served(kept)
