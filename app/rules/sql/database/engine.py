"""The engine: its pools and time limits, and what psycopg2 needs to live among greenlets."""

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

# Of one worker for the admin API. Few, because rules are cached.
ENGINE_OPTIONS: dict[str, Any] = {
    "pool_size": 2,
    "max_overflow": 2,
    "pool_timeout": 2,
    "pool_recycle": 300,
    "pool_pre_ping": True,
    "hide_parameters": True,  # in the text of errors, and so in logs: client ids, digests of keys
    "connect_args": {"connect_timeout": 2, "application_name": "ratelimiter"},
}
# Of one worker to learn of changed rules, so that it does so however busy the others are: one that polls, and one more
# while the listener takes its own out of the pool.
RULES_ENGINE, RULES_ENGINE_OPTIONS = "rules", {"pool_size": 1, "max_overflow": 1}
# Milliseconds. In each transaction, because poolers refuse `options` of a connection, and in transaction mode what a
# session sets holds for whoever gets its connection next.
TIMEOUTS = (
    "SET LOCAL statement_timeout = 1400; SET LOCAL lock_timeout = 1200;"
    " SET LOCAL idle_in_transaction_session_timeout = 5000"
)


def bound_transactions(engine: Engine) -> None:
    """From here on each transaction of the engine begins with TIMEOUTS."""
    event.listen(engine, "begin", _bound)


def _bound(connection: Connection) -> None:
    connection.exec_driver_sql(TIMEOUTS)


@contextmanager
def session_on(url: str) -> Iterator[Session]:
    """A session outside the service, on connections of its own."""
    engine = create_engine(url, **ENGINE_OPTIONS)
    bound_transactions(engine)
    try:
        with Session(engine) as session:
            yield session
    finally:
        engine.dispose()


def place_of(engine: Engine) -> str:
    """Which database the engine is for, to compare and to say: servers, ports and name, without account and options."""
    _, options = engine.dialect.create_connect_args(engine.url)
    name = options.get("dbname") or options.get("user") or ""
    return f"{options.get('host') or 'localhost'}:{options.get('port') or 5432}/{name}"


# Longer than statement_timeout: this ends the wait for a server that says nothing at all, connects included.
SILENCE_SECONDS = 1.5


def cooperate_with_gevent() -> None:
    """Let psycopg2 wait in the hub: without this one slow query stops every greenlet of the worker."""
    psycopg2.extensions.set_wait_callback(_wait)


def _wait(connection: Any) -> None:
    from gevent.socket import wait_read, wait_write  # a command needs none of it

    while True:
        state = connection.poll()
        if state == psycopg2.extensions.POLL_OK:
            return
        ready = wait_read if state == psycopg2.extensions.POLL_READ else wait_write
        try:
            ready(connection.fileno(), timeout=SILENCE_SECONDS)
        except TimeoutError as error:
            raise psycopg2.OperationalError(f"the database said nothing for {SILENCE_SECONDS} s") from error
