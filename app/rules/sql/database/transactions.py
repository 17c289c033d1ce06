"""Changes as transactions: those of one tenant come one after another, those of several tenants go side by side."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg2.errors import DeadlockDetected, ForeignKeyViolation, LockNotAvailable, QueryCanceled
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from app.rules.errors import Busy, Conflict
from app.rules.sql.ruleset_version import RulesetVersions

# What a change can be of beside a tenant, whose id is 1 or more.
TENANT_NAMES, KEYS = 0, -1

LOCKS = 7_262  # the first half of each lock's name; the second says whose it is
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.01, 0.1
TRIES = 150  # about 15 s: longer than an import of 10,000 rules takes on a busy machine
VERSION_TRIES = 12  # each as long as lock_timeout, for a node of an older release that imports
# A row is waited for in two steps, each as long as lock_timeout; together they can outlast statement_timeout.
WAITED = (LockNotAvailable, QueryCanceled, DeadlockDetected)
BUSY = "another change, such as a large import, is still running: try again when it has ended"


@contextmanager
def versioned_transaction(session: Session, whose: int) -> Iterator[None]:
    """One transaction that raises the version of all rules. `whose`: a tenant's id, TENANT_NAMES or KEYS.

    From here on no other change of the same comes between. What is rolled back inside raises no version. Raises Busy
    where another change of the same takes too long.
    """
    try:
        _begin_locked(session, whose)
        yield
        if session.in_transaction():
            _raise_version(session)
            session.commit()
    except BaseException as error:
        session.rollback()
        if isinstance(error, IntegrityError) and isinstance(error.orig, ForeignKeyViolation):
            raise Conflict("the tenant was deleted meanwhile") from error  # its keys are good for another second
        if isinstance(error, OperationalError) and isinstance(error.orig, (LockNotAvailable, DeadlockDetected)):
            raise Busy(BUSY) from error
        raise


def exclude(session: Session, whose: int) -> None:
    """Wait also for the changes of these, and keep them out until the end of this change.

    `changing` raises Busy after lock_timeout. Of a tenant's changes only: two that wait for each other never end.
    """
    session.execute(select(func.pg_advisory_xact_lock(LOCKS, whose)))


def _begin_locked(session: Session, whose: int) -> None:
    """Begin the transaction that holds the lock. A change that waits holds no connection: a worker has few."""
    pause = FIRST_PAUSE_SECONDS
    for _ in range(TRIES):
        if session.execute(select(func.pg_try_advisory_xact_lock(LOCKS, whose))).scalar_one():
            return
        session.rollback()
        time.sleep(pause)
        pause = min(1.5 * pause, LONGEST_PAUSE_SECONDS)
    raise Busy(BUSY)


def _raise_version(session: Session) -> None:
    """The last step, because from here to the commit all other changes wait. A deadlock is tried again once."""
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
