"""The servers keep their data, however they end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
import redis

from devstack import Postgres, StartError, Valkey, runtime_directory
from devstack.processes.supervised import POLL_SECONDS
from devstack.servers.server import Server
from tests.devstack.processes import ends
from tests.support.node import free_port

EVERYSEC_SECONDS = 1.2  # what Valkey acknowledged longer ago is on its disk


@pytest.fixture(scope="module")
def sockets() -> Iterator[Path]:
    with runtime_directory() as directory:
        yield directory


def crash(server: Server) -> None:
    os.kill(server.pid, signal.SIGKILL)
    server.start()


def restart(server: Server) -> None:
    server.stop()
    server.start()


ENDINGS = [restart, crash]


def test_valkey_keeps_its_data(tmp_path: Path, sockets: Path) -> None:
    with Valkey(data_dir=tmp_path / "valkey", socket_dir=sockets) as server:
        for ending in ENDINGS:
            with redis.Redis.from_url(server.url) as client:
                client.set(ending.__name__, "kept")
                time.sleep(EVERYSEC_SECONDS if ending is crash else 0)
            ending(server)
            with redis.Redis.from_url(server.url) as client:
                assert client.get(ending.__name__) == b"kept"
        with redis.Redis.from_url(server.url) as client:
            wanted = {"appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction"}
            assert client.config_get(*wanted) == wanted
            assert client.config_get("port") == {"port": "0"}
        pid = server.pid
    assert ends(pid)


def test_postgres_keeps_its_data(tmp_path: Path, sockets: Path) -> None:
    with Postgres(data_dir=tmp_path / "postgres", socket_dir=sockets) as server:
        execute(server, "CREATE TABLE kept (word text)")
        for ending in ENDINGS:
            execute(server, "INSERT INTO kept VALUES ('x')")
            before = server.url
            ending(server)
            assert server.url == before
        assert execute(server, "SELECT count(*) FROM kept") == [(2,)]
        assert execute(server, "SHOW fsync") == [("on",)]
        assert execute(server, "SHOW server_encoding") == [("UTF8",)]
        assert execute(server, "SHOW listen_addresses") == [("",)]
        secret = server.home.data / "password"
        assert secret.stat().st_mode & 0o777 == 0o600
        with pytest.raises(psycopg2.OperationalError, match="password"):
            psycopg2.connect(server.url.replace(secret.read_text().strip(), "wrong"))


def test_a_pid_file_that_names_a_living_stranger_is_no_obstacle(tmp_path: Path, sockets: Path) -> None:
    """After a restart of the machine the pid may be anybody's, also that of another process of the same user."""
    with Postgres(data_dir=tmp_path / "postgres", socket_dir=sockets, durable=False) as server:
        pid_file = server.home.data / "cluster" / "postmaster.pid"
        lines = pid_file.read_text().split("\n")
        server.kill()
        pid_file.write_text("\n".join([str(os.getppid()), *lines[1:]]))
        server.start()
        assert execute(server, "SELECT 1") == [(1,)]


def test_an_interrupted_initdb_is_forgotten(tmp_path: Path, sockets: Path) -> None:
    unfinished = tmp_path / "postgres.new" / "cluster"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    with Postgres(data_dir=tmp_path / "postgres", socket_dir=sockets, durable=False) as server:
        assert execute(server, "SELECT 1") == [(1,)]
    assert not unfinished.parent.exists()


def test_valkey_on_a_port_comes_back_there(tmp_path: Path, sockets: Path) -> None:
    port = free_port()
    with Valkey(data_dir=tmp_path / "valkey", socket_dir=sockets, durable=False, port=port) as server:
        assert server.url == f"redis://127.0.0.1:{port}/0"
        for _ in range(2):
            with redis.Redis.from_url(server.url) as client:
                assert client.ping()
            server.kill()
            server.start()


def test_a_server_that_does_not_start_says_why_in_one_line(tmp_path: Path, sockets: Path) -> None:
    broken = Valkey(data_dir=tmp_path / "valkey", socket_dir=sockets, options={"maxmemory-policy": "sometimes"})
    with pytest.raises(StartError, match=r"^Valkey did not start: .*argument.*\(log: .*valkey\.log\)$"):
        broken.start()


def test_a_server_that_ends_again_and_again_is_given_up(
    tmp_path: Path, sockets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end() -> None:
        os.kill(server.pid, signal.SIGKILL)
        assert server.process.wait(10) == 128 + signal.SIGKILL

    with Valkey(data_dir=tmp_path / "valkey", socket_dir=sockets, durable=False, pause=briefly) as server:
        assert not server.revive()
        server.log.unlink()  # which is no reason to end
        for _ in range(5):
            end()
            assert server.revive()
        end()
        with pytest.raises(StartError, match=r"^Valkey ended by itself \(exit 137\), more than 5 times within a min"):
            server.revive()
        monkeypatch.setattr("devstack.servers.server.ENDS_SECONDS", 0)  # as if those endings were of another minute
        assert server.revive()
        assert not server.revive()


def briefly(seconds: float) -> None:
    time.sleep(min(seconds, POLL_SECONDS))


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="too long for a unix socket"):
        Valkey(data_dir=tmp_path / "valkey", socket_dir=tmp_path / ("x" * 100))


def execute(server: Postgres, statement: str) -> list[tuple[object, ...]]:
    with closing(psycopg2.connect(server.url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
