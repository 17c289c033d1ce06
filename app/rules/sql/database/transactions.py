"""Transactions of changes: one tenant's run one after another, different tenants' run in parallel."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg2.errors import DeadlockDetected, ForeignKeyViolation, LockNotAvailable, QueryCanceled, UniqueViolation
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from app.rules.errors import Busy, Conflict
from app.rules.sql.ruleset_version import RulesetVersions

# Scopes of a change besides a tenant, scope id is 1 or more.
TENANT_NAMES, KEYS = 0, -1

LOCKS = 7_262  # the first half of each lock's name; the second is the scope
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.01, 0.1
TRIES = 150  # about 15 s: longer than an import of 10,000 rules takes on a busy machine
VERSION_TRIES = 12  # each as long as lock_timeout, for an import by a node of an older release
# PostgreSQL waits for a row in two steps, each as long as lock_timeout; together they can exceed statement_timeout.
WAITED = (LockNotAvailable, QueryCanceled, DeadlockDetected)
HIDDEN = "a rule that only a later release understands has this layer, client or group, and endpoint already"
BUSY = "another change, such as a large import, is still running: try again when it has ended"


@contextmanager
def versioned_transaction(session: Session, scope: int) -> Iterator[None]:
    """One transaction that raises the ruleset version. `scope`: a tenant's id, TENANT_NAMES or KEYS.

    Inside, no other change of the same scope can run. A rollback inside raises no version. Raises Busy if another
    change of the same scope takes too long.
    """
    try:
        _begin_locked(session, scope)
        yield
        if session.in_transaction():
            _raise_version(session)
            session.commit()
    except BaseException as error:
        session.rollback()
        if isinstance(error, IntegrityError) and isinstance(error.orig, ForeignKeyViolation):
            raise Conflict("the tenant was deleted meanwhile") from error  # its keys are accepted for another second
        if isinstance(error, IntegrityError) and isinstance(error.orig, UniqueViolation) and _of_a_rule(error.orig):
            raise Conflict(HIDDEN, "rule-exists") from error
        if isinstance(error, OperationalError) and isinstance(error.orig, (LockNotAvailable, DeadlockDetected)):
            raise Busy(BUSY) from error
        raise


def exclude(session: Session, scope: int) -> None:
    """Lock another scope as well, until the end of this transaction.

    `versioned_transaction` raises Busy after lock_timeout. Use it only in a tenant's change: two transactions that wait
    for each other would never end.
    """
    session.execute(select(func.pg_advisory_xact_lock(LOCKS, scope)))


def _of_a_rule(violation: UniqueViolation) -> bool:
    return str(violation.diag.constraint_name).startswith("uq_all_rules_")


def _begin_locked(session: Session, scope: int) -> None:
    """Begin the transaction that holds the lock. A waiting change holds no connection, because a worker has few."""
    pause = FIRST_PAUSE_SECONDS
    for _ in range(TRIES):
        if session.execute(select(func.pg_try_advisory_xact_lock(LOCKS, scope))).scalar_one():
            return
        session.rollback()
        time.sleep(pause)
        pause = min(1.5 * pause, LONGEST_PAUSE_SECONDS)
    raise Busy(BUSY)


def _raise_version(session: Session) -> None:
    """Raise the version last, because all other changes wait from here to the commit. Retry once after a deadlock."""
    deadlocks = 0
    for _ in range(VERSION_TRIES):
        try:
            with session.begin_nested():
                RulesetVersions(session).bump()
            return
        except OperationalError as error:
            deadlocks += isinstance(error.orig, DeadlockDetected)
            if deadlocks > 1 or not isinstance(error.orig, WAITED):
                raise
    raise Busy(BUSY)
