"""Runs the migrations on the application's own engine, one migrator at a time: any number may start at once."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from alembic import context
from flask import current_app
from sqlalchemy import Engine, text

from app.environment import SettingsError

# Any number, as long as every migrator of this schema uses the same one.
MIGRATION_LOCK = 7_262_001
LOCK_WAIT = "120s"  # for another migrator to finish
TABLE_LOCK_WAIT = "5s"  # for traffic to let go of a table; failing beats queueing every reader behind us


@contextmanager
def alone(engine: Engine) -> Iterator[None]:
    """Hold the migrators' lock, on a connection of its own: no transaction of a migration lets go of it."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text(f"SET lock_timeout = '{LOCK_WAIT}'"))
        connection.execute(text(f"SELECT pg_advisory_lock({MIGRATION_LOCK})"))
        try:
            yield
        finally:
            # The session's lock and settings go with the session, not back into a pool.
            connection.invalidate()


def run() -> None:
    database = current_app.extensions["migrate"].db
    with alone(database.engine), database.engine.connect() as connection:
        # Only now: what waits from here on waits for a table, with traffic queueing behind it.
        connection.execute(text(f"SET lock_timeout = '{TABLE_LOCK_WAIT}'"))
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("SET idle_in_transaction_session_timeout = 0"))
        connection.commit()
        context.configure(
            connection=connection, target_metadata=database.metadata, transaction_per_migration=True, compare_type=True
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
        connection.invalidate()


if context.is_offline_mode():
    context.configure(url=str(current_app.extensions["migrate"].db.engine.url), literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    try:
        run()
    except SettingsError as error:
        sys.exit(str(error))
