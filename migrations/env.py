"""Runs the migrations, one migrator at a time: any number may start at once, also behind a connection pooler."""

import sys

from alembic import context
from flask import current_app
from psycopg2.errors import LockNotAvailable
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import OperationalError

from app.environment import SettingsError
from app.rules.sql.database.engine import ENGINE_OPTIONS

# Any number, if every migrator of this schema uses the same one.
MIGRATION_LOCK = 7_262_001
LOCK_WAIT = "120s"  # for another migrator to finish
TABLE_LOCK_WAIT = "5s"  # for traffic to release a table; failing is better than a queue of readers behind us


def engine() -> Engine:
    """Return the engine of MIGRATION_DATABASE_URL, else the application's own."""
    url = current_app.extensions["ratelimiter"].settings.migration_database_url
    return create_engine(url, **ENGINE_OPTIONS) if url else current_app.extensions["migrate"].db.engine


def alone(connection: Connection) -> None:
    """Wait for the migrators' lock, and hold it until the transaction ends.

    A pooler in transaction mode keeps the connection ours until then. A session lock would outlive this process there.
    So all migrations are one transaction, and `autocommit_block` would release the lock.
    """
    waits = {"statement_timeout": 0, "idle_in_transaction_session_timeout": 0, "lock_timeout": LOCK_WAIT}
    for name, value in waits.items():
        connection.execute(text(f"SET LOCAL {name} = '{value}'"))
    try:
        connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
    except OperationalError as error:
        if isinstance(error.orig, LockNotAvailable):
            sys.exit(f"no migration: another one has been running for {LOCK_WAIT}")
        raise
    # Set only now: later waits are for a table, with traffic queueing behind them.
    connection.execute(text(f"SET LOCAL lock_timeout = '{TABLE_LOCK_WAIT}'"))


def connected() -> Connection:
    try:
        return engine().connect()
    except OperationalError as error:
        sys.exit(f"no migration: {str(error.orig).splitlines()[0]}")


def run() -> None:
    with connected() as connection, connection.begin():
        alone(connection)
        metadata = current_app.extensions["migrate"].db.metadata
        context.configure(connection=connection, target_metadata=metadata, compare_type=True)
        with context.begin_transaction():
            context.run_migrations()


if context.is_offline_mode():
    context.configure(url=str(engine().url), literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    try:
        run()
    except SettingsError as error:
        sys.exit(str(error))
