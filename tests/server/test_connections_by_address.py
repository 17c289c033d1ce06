"""How many connections one address may have, and what the others get."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from app.server.connections_by_address import ConnectionsByAddress
from devstack import Valkey
from tests.api.raw_http import RawAnswer, problem_of, request
from tests.support.answers import Answers
from tests.support.node import Node

MOST = 3


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "10.1.2.3", "::ffff:10.1.2.3", "192.0.2.7"]
)
def test_loopback_and_trusted_proxies_may_have_any_number(address: str) -> None:
    addresses = ConnectionsByAddress(most=1, trusted="10.0.0.0/8, 192.0.2.7")
    assert all(addresses.enter(address) for _ in range(10))


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        ("198.51.100.1", "198.51.100.1", "198.51.100.2"),
        ("198.51.100.1", "::ffff:198.51.100.1", "::ffff:198.51.100.2"),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:2::1"),
        ("fe80::1%1", "fe80::2%1", "2001:db8::1"),
    ],
)
def test_an_address_may_have_so_many_at_a_time(one: str, same: str, other: str) -> None:
    """Of IPv6, a /64: so many addresses has one subscriber."""
    addresses = ConnectionsByAddress(most=2, trusted="10.0.0.0/8")
    assert [addresses.enter(each) for each in (one, same, one, same, other)] == [True, True, False, False, True]
    addresses.leave(same)
    assert [addresses.enter(one), addresses.enter(one)] == [True, False]


def test_what_is_counted_is_forgotten_with_its_last_connection() -> None:
    addresses = ConnectionsByAddress(most=2, trusted="")
    for number in range(100):
        assert addresses.enter(f"198.51.100.{number}")
        addresses.leave(f"198.51.100.{number}")
    assert len(addresses) == 0


def test_without_a_bound_nothing_is_counted() -> None:
    addresses = ConnectionsByAddress(most=0, trusted="")
    assert all(addresses.enter("198.51.100.1") for _ in range(10))
    assert len(addresses) == 0


@pytest.fixture(scope="module")
def strict(valkey: Valkey, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One worker that takes three connections of an address."""
    settings = {"WEB_CONCURRENCY": 1, "MAX_CONNECTIONS_PER_ADDRESS": MOST}
    data_dir = tmp_path_factory.mktemp("strict")
    with Node(redis_url=valkey.url, database_url=database_url, data_dir=data_dir, **settings) as node:
        yield node


@pytest.fixture(scope="module")
def outside() -> str:
    """An address of this machine that is not loopback: who connects from it is a stranger, also to 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # no packet leaves: it only chooses the address
        except OSError:
            pytest.skip("this machine has no address but loopback")
        address: str = probe.getsockname()[0]
        return address


def test_what_is_above_the_bound_is_told_so_and_ends(strict: Node, outside: str) -> None:
    with ExitStack() as stack:

        def connect(source: str) -> socket.socket:
            to = ("127.0.0.1", strict.port)
            return stack.enter_context(socket.create_connection(to, timeout=20, source_address=(source, 0)))

        def status(connection: socket.socket) -> int:
            connection.sendall(request("GET /livez"))
            return Answers(connection).next().status

        served = [connect(outside) for _ in range(MOST)]
        assert [status(connection) for connection in served] == [200] * MOST
        refused = [RawAnswer(connect(outside).recv(65536)) for _ in range(10)]
        for answer in refused:
            assert "at a time" in problem_of(answer, 503)["detail"]
            assert answer.headers["Connection"] == "close"
        near = [connect("127.0.0.1") for _ in range(2 * MOST)]
        assert [status(connection) for connection in near] == [200] * len(near)
        served[0].close()
        assert strict.eventually(lambda: b"200 OK" in asked(connect(outside)))
    lines = [line for line in strict.log.read_text().splitlines() if "MAX_CONNECTIONS_PER_ADDRESS" in line]
    assert len(lines) == 1  # a minute
    assert outside in lines[0]


def asked(connection: socket.socket) -> bytes:
    """What comes first on a connection that asks; nothing where it was reset."""
    try:
        connection.sendall(request("GET /livez"))
        return connection.recv(65536)
    except ConnectionError:
        return b""
