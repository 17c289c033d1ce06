"""PostgreSQL refuses root. Both ways around it."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from devstack import Postgres, StartError, runtime_directory
from devstack.processes import unprivileged
from devstack.processes.identity import nobody

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: an ordinary user's PostgreSQL runs as that user")


@pytest.fixture
def public_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """In place of /var/lib."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        monkeypatch.setattr(unprivileged, "STATE", Path(directory))
        yield Path(directory)


@pytest.fixture
def closed_home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    return home


def test_in_a_user_namespace_nothing_moves(closed_home: Path, public_state: Path) -> None:
    identity = nobody("namespace")
    if not unprivileged.namespace_works(identity, Path("/bin/sh"), closed_home, lambda _: None):
        pytest.skip("root may not make user namespaces here")
    with runtime_directory() as sockets, Postgres(data_dir=closed_home / "postgres", socket_dir=sockets) as server:
        assert works(server)
        assert server.home.data == closed_home / "postgres"
        assert server.home.data.stat().st_uid == 0
    assert closed_home.stat().st_mode & 0o777 == 0o700
    assert list(public_state.iterdir()) == []


def test_without_namespaces_it_runs_as_nobody(
    closed_home: Path, public_state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unprivileged, "namespace_works", lambda *_: False)
    with runtime_directory() as sockets, Postgres(data_dir=closed_home / "postgres", socket_dir=sockets) as server:
        for _ in range(2):
            assert works(server)
            assert Path(f"/proc/{server.pid}").stat().st_uid == pwd.getpwnam("nobody").pw_uid
            assert server.home.data.is_relative_to(public_state)
            assert server.home.data.stat().st_mode & 0o777 == 0o700
            server.kill()
            server.start()
    # Once there, it stays there: the data must not seem lost where namespaces work again.
    monkeypatch.undo()
    monkeypatch.setattr(unprivileged, "STATE", public_state)
    assert unprivileged.find_home(closed_home / "postgres").data == server.home.data


def test_data_that_only_a_namespace_can_open_is_not_started_anew(
    closed_home: Path, public_state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (closed_home / "postgres").mkdir()
    monkeypatch.setattr(unprivileged, "namespace_works", lambda *_: False)
    with pytest.raises(StartError, match="no user namespaces"):
        unprivileged.find_home(closed_home / "postgres")


def test_data_of_another_user_is_left_alone(closed_home: Path, public_state: Path) -> None:
    data = closed_home / "postgres"
    data.mkdir()
    os.chown(data, 4321, 4321)
    with pytest.raises(StartError, match=r"belongs to user 4321|no user namespaces"):
        unprivileged.find_home(data)


def works(server: Postgres) -> bool:
    with closing(psycopg2.connect(server.url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT current_database()")
        return bool(cursor.fetchone() == ("ratelimiter",))
