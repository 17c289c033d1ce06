"""A database that fails right after a change was committed: a table is gone that is read for warnings."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import psycopg2

HIDE = """
CREATE FUNCTION hide() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN ALTER TABLE IF EXISTS rule_limits RENAME TO hidden; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER hide AFTER INSERT OR UPDATE ON all_rules DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION hide()
"""
SHOW = "ALTER TABLE hidden RENAME TO rule_limits"


@contextlib.contextmanager
def hidden_after_changes(database_url: str) -> Iterator[Callable[[], None]]:
    """Meanwhile each change has the table go. Call what this gives after each: it fails where nothing was committed."""
    with contextlib.closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(HIDE)
        try:
            yield lambda: cursor.execute(SHOW)
        finally:
            cursor.execute("DROP FUNCTION hide() CASCADE")
