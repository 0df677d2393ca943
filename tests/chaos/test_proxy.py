"""The proxy breaks a network as it says. No broker: an echo behind it."""

import socket
import threading
import time

import pytest
from chaos.proxy import DELAY_S, Proxy

from app.local_kafka import probe


@pytest.fixture
def echo():
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection):
        with connection:
            while data := receive(connection):
                connection.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    yield server.getsockname()[1]
    server.close()


@pytest.fixture
def proxy(echo):
    with Proxy(probe.free_port(31_000), echo) as proxy:
        yield proxy


def receive(connection):
    """What comes; b"" when the connection is closed or reset."""
    try:
        return connection.recv(1000)
    except ConnectionError:
        return b""


def connect(proxy):
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5.0)


def asked(connection):
    connection.sendall(b"hello")
    return receive(connection)


def test_it_passes_bytes_on_and_takes_new_connections_after_each_failure(proxy):
    for mode in ("drop", "delay", "half_open"):
        with connect(proxy) as connection:
            assert asked(connection) == b"hello"
        proxy.fail(mode)
        proxy.fail(None)
    with connect(proxy) as connection:
        assert asked(connection) == b"hello"


def test_drop_resets_what_is_open_and_what_comes(proxy):
    with connect(proxy) as before:
        assert asked(before) == b"hello"
        proxy.fail("drop")
        assert receive(before) == b""
        with connect(proxy) as after:
            assert receive(after) == b""


def test_delay_holds_bytes_both_ways(proxy):
    with connect(proxy) as connection:
        proxy.fail("delay")
        began = time.monotonic()
        assert asked(connection) == b"hello"
        assert time.monotonic() - began >= 2 * DELAY_S


def test_half_open_swallows_bytes_and_resets_at_its_end(proxy):
    with connect(proxy) as connection:
        assert asked(connection) == b"hello"
        proxy.fail("half_open")
        connection.sendall(b"lost")
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1000)
        proxy.fail(None)
        connection.settimeout(5.0)
        assert receive(connection) == b""
        assert proxy.swallowed == 1
