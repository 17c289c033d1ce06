"""The engines: pools, time limits, and psycopg2 among greenlets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2.extensions
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

DATABASE_ERRORS = (DBAPIError, PoolTimeout)

# For the admin API, per worker. Few connections, because rules are cached.
ENGINE_OPTIONS: dict[str, Any] = {
    "pool_size": 2,
    "max_overflow": 2,
    "pool_timeout": 2,
    "pool_recycle": 300,
    "pool_pre_ping": True,
    "hide_parameters": True,  # keeps client ids and digests of keys out of error texts, and so out of logs
    "connect_args": {"connect_timeout": 2, "application_name": "ratelimiter"},
}
# For changed rules, per worker, independent of the admin API's load: one connection polls. One more is needed while the
# listener takes its own out of the pool.
RULES_ENGINE, RULES_ENGINE_OPTIONS = "rules", {"pool_size": 1, "max_overflow": 1}
# Milliseconds, set in each transaction. Poolers refuse `options` of a connection. In transaction mode, a session's
# settings would apply to the next user of its connection.
TIMEOUTS = (
    "SET LOCAL statement_timeout = 1400; SET LOCAL lock_timeout = 1200;"
    " SET LOCAL idle_in_transaction_session_timeout = 5000"
)


def bound_transactions(engine: Engine) -> None:
    """Begin each transaction of the engine with TIMEOUTS from now on."""
    event.listen(engine, "begin", _bound)


def _bound(connection: Connection) -> None:
    connection.exec_driver_sql(TIMEOUTS)


@contextmanager
def session_on(url: str) -> Iterator[Session]:
    """Yield a session outside the service, on its own connections."""
    engine = create_engine(url, **ENGINE_OPTIONS)
    bound_transactions(engine)
    try:
        with Session(engine) as session:
            yield session
    finally:
        engine.dispose()


def place_of(engine: Engine) -> str:
    """Return the engine's servers, ports and database name, without account and options, for comparison and display."""
    _, options = engine.dialect.create_connect_args(engine.url)
    name = options.get("dbname") or options.get("user") or ""
    return f"{options.get('host') or 'localhost'}:{options.get('port') or 5432}/{name}"


# Longer than statement_timeout. Ends the wait for a silent server, during connects too.
ANSWER_SECONDS = 1.5


def cooperate_with_gevent() -> None:
    """Make psycopg2 wait in the hub; otherwise a slow query or name server stops every greenlet of the worker."""
    from app.rules.sql.database.name_lookup import NameLookup  # a command needs no gevent

    psycopg2.extensions.set_wait_callback(_wait)
    event.listen(Engine, "do_connect", NameLookup().add_addresses)


def _wait(connection: Any) -> None:
    from gevent.socket import wait_read, wait_write  # a command needs no gevent

    while True:
        state = connection.poll()
        if state == psycopg2.extensions.POLL_OK:
            return
        ready = wait_read if state == psycopg2.extensions.POLL_READ else wait_write
        try:
            ready(connection.fileno(), timeout=ANSWER_SECONDS)
        except TimeoutError as error:
            raise psycopg2.OperationalError(f"the database said nothing for {ANSWER_SECONDS} s") from error
