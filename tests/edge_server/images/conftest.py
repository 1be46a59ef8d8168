"""Loopback sites and made-up names for the tests of fetching."""

import socket
from ipaddress import ip_address

import pytest

from tests.edge_server.images.loopback import Site, serving


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
        if self.type == socket.SOCK_STREAM:  # others send nothing, they ask for the way
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
