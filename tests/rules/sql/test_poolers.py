"""Behind the real PgBouncer, in both modes: migrations, a node whose rules are current, timeouts that hold and stay."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg2
import pytest
from psycopg2.errors import QueryCanceled
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError

from app.rules.sql.database.engine import ENGINE_OPTIONS, bound_transactions
from devstack import Postgres, Valkey
from tests.conftest import flask
from tests.support.node import Node
from tests.support.pgbouncer import PgBouncer

MODES = ("session", "transaction")
PROMISED_SECONDS = 2.0  # from the answer to a change until every worker decides by it, by polls alone
UNHEARD = "notifications of changed rules do not arrive for now, polling goes on: they do not arrive"


@pytest.fixture(scope="module", params=MODES)
def pooler(
    request: pytest.FixtureRequest, postgres: Postgres, empty_database: Callable[[str], str]
) -> Iterator[PgBouncer]:
    """In front of a database that was migrated through it, twice."""
    with PgBouncer(postgres, empty_database(f"pooled_{request.param}"), request.param) as running:
        flask("db", "upgrade", database_url=running.url)
        flask("db", "upgrade", database_url=running.url)
        yield running


@pytest.fixture
def mode(pooler: PgBouncer, request: pytest.FixtureRequest) -> str:
    found: str = request.node.callspec.params["pooler"]
    return found


@pytest.fixture(scope="module")
def pooled(pooler: PgBouncer, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that knows no other way to the database."""
    data_dir = tmp_path_factory.mktemp("node")
    with Node(redis_url=valkey.url, database_url=pooler.url, data_dir=data_dir, REDIS_TIMEOUT_MS=2000) as running:
        yield running


@pytest.fixture
def engine(pooler: PgBouncer) -> Iterator[Engine]:
    """As the service's own."""
    engine = create_engine(pooler.url, **ENGINE_OPTIONS)
    bound_transactions(engine)
    yield engine
    engine.dispose()


def test_changes_are_in_force_in_time_and_administration_works(pooled: Node) -> None:
    assert pooled.request("GET", "/readyz", key=None).status_code == 200
    for rate in (1, 2, 3):
        rule = {"client_id": "pooled", "rate": rate, "window": 60}
        changed = pooled.request("POST", "/v1/admin/rules", json=rule)
        answered = time.monotonic()
        assert changed.status_code in (200, 201), changed.text
        version = pooled.request("GET", "/health", key=None).json()["rules_version"]
        assert pooled.eventually(lambda version=version: pooled.metric("ratelimiter_rules_version") >= version)
        assert time.monotonic() - answered < PROMISED_SECONDS
        assert pooled.check("pooled", cost=0)["limit"] == rate
    stored = changed.json()["id"]
    assert len(pooled.request("GET", f"/v1/admin/rules/{stored}/versions").json()) == 3
    rules = {"rules": [{"client_id": f"imported-{number}", "rate": 1, "window": 1} for number in range(50)]}
    assert pooled.request("POST", "/v1/admin/import", json=rules).status_code == 200
    assert len(pooled.request("GET", "/v1/admin/export").json()["rules"]) == 51
    assert pooled.request("DELETE", f"/v1/admin/rules/{stored}").status_code == 204


def test_the_node_says_whether_it_hears_of_changes(pooled: Node, mode: str) -> None:
    """In transaction mode LISTEN succeeds, and nothing is ever heard."""
    hears = int(mode == "session")
    said = "listening for changed rules" if hears else UNHEARD
    assert pooled.eventually(lambda: pooled.log.read_text().count(said) == 2)  # a line a worker
    assert pooled.eventually(lambda: pooled.metric("ratelimiter_rules_notified") == hears)
    assert pooled.request("GET", "/health", key=None).json()["rules_notified"] is bool(hears)


def test_timeouts_hold_and_stay_in_their_transaction(engine: Engine, pooler: PgBouncer) -> None:
    with engine.connect() as connection:
        shown = [
            connection.execute(text(f"SHOW {name}")).scalar_one()
            for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        ]
        assert shown == ["1400ms", "1200ms", "5s"]
        with pytest.raises(OperationalError) as caught:
            connection.execute(text("SELECT pg_sleep(10)"))
    assert isinstance(caught.value.orig, QueryCanceled)
    engine.dispose()  # so that the pooler has a connection of ours to give away
    with closing(psycopg2.connect(pooler.url)) as other, other.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("0",)
