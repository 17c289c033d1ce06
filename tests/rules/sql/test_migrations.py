"""The migrations: many may start at once, each can be taken back, and they make what the models say."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
import pytest

from tests.conftest import flask
from tests.support.faults import Figures
from tests.support.node import ROOT, free_port

MIGRATORS = 5


@contextmanager
def cursor_of(url: str) -> Iterator[Any]:
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        yield cursor


def tables(url: str) -> set[str]:
    with cursor_of(url) as cursor:
        cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        return {name for (name,) in cursor.fetchall()}


@pytest.mark.fault(25, f"{MIGRATORS} `flask db upgrade` at once on an empty database")
def test_of_five_migrators_at_once_one_runs_and_none_fails(
    empty_database: Callable[[str], str], measured: Figures
) -> None:
    """One migrates, the others wait for it and find nothing to do; none fails."""
    url, began = empty_database("migrators"), time.monotonic()
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "db", "upgrade"]
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": url}
    migrators = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(MIGRATORS)
    ]
    said = [migrator.communicate(timeout=90)[1] for migrator in migrators]
    assert [migrator.returncode for migrator in migrators] == [0] * MIGRATORS, said
    migrated = sum("Running upgrade" in lines for lines in said)
    measured["migrated"], measured["failed"] = migrated, 0
    measured["all done after, s"] = round(time.monotonic() - began, 1)
    assert migrated == 1
    with cursor_of(url) as cursor:
        cursor.execute("SELECT count(*) FROM rule_book")
        assert cursor.fetchone() == (1,)


def test_migrations_can_have_a_way_to_the_database_of_their_own(new_database: Callable[[str], str]) -> None:
    nowhere = f"postgresql://127.0.0.1:{free_port()}/none"
    url = new_database("own_way")
    assert "(head)" in flask("db", "current", database_url=nowhere, MIGRATION_DATABASE_URL=url)
    with pytest.raises(AssertionError, match=r"^no migration: connection .* failed: Connection refused"):
        flask("db", "upgrade", database_url=url, MIGRATION_DATABASE_URL=nowhere)


def test_the_models_say_what_the_migrations_make(new_database: Callable[[str], str]) -> None:
    assert "No new upgrade operations detected" in flask("db", "check", database_url=new_database("models"))


def test_every_migration_can_be_taken_back_and_made_again(new_database: Callable[[str], str]) -> None:
    url = new_database("downgrade")
    full = tables(url)
    flask("db", "downgrade", "base", database_url=url)
    assert tables(url) == {"alembic_version"}
    flask("db", "upgrade", database_url=url)
    assert tables(url) == full


def test_rules_of_the_first_schema_get_their_version_and_survive_the_way_back(
    new_database: Callable[[str], str],
) -> None:
    url = new_database("backfill")
    flask("db", "downgrade", "0001", database_url=url)
    with cursor_of(url) as cursor:
        cursor.execute("INSERT INTO rules (tenant_id, client_id, version) VALUES (1, 'a', 3), (1, 'b', 1) RETURNING id")
        (first,), _ = cursor.fetchall()
        cursor.execute(
            "INSERT INTO rule_limits (rule_id, position, rate, window_seconds, algorithm, counter)"
            " VALUES (%s, 1, 9, 60, 'gcra', 2), (%s, 0, 5, 1, NULL, 1)",
            (first, first),
        )
    flask("db", "upgrade", database_url=url)
    with cursor_of(url) as cursor:
        cursor.execute("SELECT version, document FROM rule_versions ORDER BY rule_id")
        (version, document), (_, without_limits) = cursor.fetchall()
        cursor.execute("SELECT length(key_hash_secret) FROM rule_book")
        assert cursor.fetchone() == (64,)
    assert version == 3
    assert document["limits"] == [
        {"rate": 5, "window": 1, "algorithm": None, "burst": None},
        {"rate": 9, "window": 60, "algorithm": "gcra", "burst": None},
    ]
    assert without_limits["limits"] == []
    flask("db", "downgrade", "0001", database_url=url)
    with cursor_of(url) as cursor:
        cursor.execute("SELECT count(*) FROM rule_limits")
        assert cursor.fetchone() == (2,)


def test_the_way_back_deletes_the_rules_that_the_release_before_does_not_understand(
    new_database: Callable[[str], str],
) -> None:
    url = new_database("layers")
    with cursor_of(url) as cursor:
        cursor.execute(
            'INSERT INTO all_rules (tenant_id, client_id, "group", layer, needs)'
            " VALUES (1, 'a', NULL, 'default', 0), (1, 'a', NULL, 'org', 1), (1, NULL, 'org:*', 'default', 1)"
        )
        cursor.execute("INSERT INTO rule_limits SELECT id, 0, 1, 1, NULL, NULL, 1 FROM all_rules")
    flask("db", "downgrade", "0006", database_url=url)
    with cursor_of(url) as cursor:
        cursor.execute("SELECT client_id, rate FROM rules JOIN rule_limits ON rule_id = id")
        assert cursor.fetchall() == [("a", 1)]
