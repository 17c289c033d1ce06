"""The database as the reloader's source, and what psycopg2 needs to live among greenlets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg2.extensions
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from app.rules.rule import Rule
from app.rules.rule_book import Edition, Snapshot
from app.rules.sql.repository import RuleRepository
from app.rules.sql.ruleset_version import Editions
from app.rules.yielding import Pace, at_once

DATABASE_ERRORS = (DBAPIError, PoolTimeout)
RULES_AT_ONCE = 500  # rows of one answer, which is read in one piece

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


class DatabaseRules:
    """Snapshots read from the tables, each in one repeatable-read transaction.

    Rules whose rows have not changed since the last snapshot are the same objects as in that one, and are not read.
    """

    def __init__(self, engine: Engine, pace: Pace = at_once) -> None:
        self._engine = engine.execution_options(isolation_level="REPEATABLE READ")
        self._pace = pace
        self._key_secret: bytes | None = None
        self._marks: dict[int, str] = {}  # by id, of the rows that the rules were made of
        self._rules: dict[int, Rule] = {}

    def other_than(self, edition: Edition | None) -> Snapshot | None:
        """The current snapshot, or None where it is `edition`. Raises what SQLAlchemy raises."""
        with Session(self._engine) as session:
            editions = Editions(session)
            current = editions.current()
            if current == edition:
                return None
            if current.key_secret != self._key_secret:  # another database: its marks mean other rows
                self._key_secret, self._marks, self._rules = current.key_secret, {}, {}
            return editions.snapshot(self._read(editions, RuleRepository(session)), self._pace)

    def _read(self, editions: Editions, rules: RuleRepository) -> Iterable[Rule]:
        ids, changed = list[int](), dict[int, str]()
        for rule_id, mark in self._pace(editions.marks()):
            ids.append(rule_id)
            if self._marks.get(rule_id) != mark:
                changed[rule_id] = mark
        missing = list(changed)
        parts = (missing[first : first + RULES_AT_ONCE] for first in range(0, len(missing), RULES_AT_ONCE))
        for rule in self._pace(rule for part in parts for rule in rules.of_ids(part)):
            self._rules[rule.id], self._marks[rule.id] = rule, changed[rule.id]
        self._forget_all_but(ids)
        return (self._rules[rule_id] for rule_id in self._pace(ids))

    def _forget_all_but(self, ids: Sequence[int]) -> None:
        if len(self._rules) == len(ids):  # each of them is there
            return
        kept = set(self._pace(ids))
        for rule_id in self._pace(list(self._rules)):
            if rule_id not in kept:
                del self._rules[rule_id], self._marks[rule_id]


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
