"""The names of PostgreSQL's servers: what is connected to, and that nobody stands still while a name is looked up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from app.rules.sql.database.name_lookup import NameLookup
from tests.support.node import ROOT

RESOLVER = "nameserver 127.0.0.1\noptions timeout:2 attempts:1\n"
NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount", "--net", "sh", "-c")
# In a network of its own, with a name server that never answers.
SCRIPT = """
import gevent.monkey
gevent.monkey.patch_all()
import gevent, json, socket, time
silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
silent.bind(("127.0.0.1", 53))
from sqlalchemy import create_engine
from app.rules.sql.database.engine import ENGINE_OPTIONS, cooperate_with_gevent
cooperate_with_gevent()
longest = 0
def tick():
    global longest
    while True:
        began = time.monotonic()
        gevent.sleep(0.01)
        longest = max(longest, time.monotonic() - began)
gevent.spawn(tick)
began = time.monotonic()
try:
    create_engine("postgresql+psycopg2://u@database.example/d", **ENGINE_OPTIONS).connect()
except Exception as error:
    failed = str(error)
took = time.monotonic() - began
gevent.sleep(0.1)
print(json.dumps([failed, took, longest]))
"""


def test_a_name_server_that_does_not_answer_stops_no_other_greenlet(tmp_path: Path) -> None:
    resolver = tmp_path / "resolv.conf"
    resolver.write_text(RESOLVER)
    prepare = f'ip link set lo up && mount --bind "{resolver}" /etc/resolv.conf'

    def run(command: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*NAMESPACE, command, *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )

    if sys.platform != "linux" or run(prepare).returncode:
        pytest.skip("needs Linux, ip and unshare, and to be allowed namespaces")
    told = run(f'{prepare} && exec "$0" -c "$1"', sys.executable, SCRIPT)
    assert told.returncode == 0, told.stderr
    failed, took, longest = json.loads(told.stdout)
    assert took > 1
    assert longest < took / 2
    assert "the database's name cannot be looked up: database.example: " in failed


def looked_up(**options: Any) -> dict[str, Any]:
    NameLookup().add_addresses(None, None, None, options)
    return options


def test_a_name_is_connected_to_by_its_addresses() -> None:
    found = looked_up(host="localhost", port=5432, dbname="d")
    addresses = found["hostaddr"].split(",")
    assert set(addresses) <= {"127.0.0.1", "::1"}
    assert found["host"] == ",".join(["localhost"] * len(addresses))
    assert found["port"] == ",".join(["5432"] * len(addresses))
    assert found["dbname"] == "d"


@pytest.mark.parametrize(
    "options",
    [
        {"dbname": "d"},
        {"host": "/run/postgresql"},
        {"host": "127.0.0.1", "port": 5},
        {"host": "::1"},
        {"host": "localhost", "hostaddr": "127.0.0.1"},
        {"host": "localhost,localhost,localhost", "port": "1,2"},  # libpq refuses it
    ],
)
def test_what_is_no_name_is_left_as_it_is(options: dict[str, Any]) -> None:
    assert looked_up(**options) == options


def test_of_several_servers_those_that_are_found_are_left() -> None:
    found = looked_up(host="no..name,/run/postgresql,127.0.0.1", port="1,2,3")
    assert (found["host"], found["hostaddr"], found["port"]) == ("/run/postgresql,127.0.0.1", ",", "2,3")


def test_a_name_that_cannot_be_looked_up_is_told() -> None:
    with pytest.raises(psycopg2.OperationalError, match=r"cannot be looked up: no\.\.name: "):
        looked_up(host="no..name")
