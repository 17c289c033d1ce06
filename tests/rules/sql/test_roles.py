"""The database roles of docs/operations.md: the service can do its work, and cannot rewrite the audit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from app.rules.rule import Limit, Rule
from app.rules.sql.access.api_keys import ApiKeys
from app.rules.sql.access.key_use import KeyUse
from app.rules.sql.access.tenants import Tenants
from app.rules.sql.changes import RuleChanges
from app.rules.sql.history import AuditFilter, Author, History, prune
from app.rules.sql.snapshot_source import SnapshotSource
from tests.conftest import flask
from tests.support.node import ROOT

AUTHOR = Author("tester", "-")


def _as(role: str, url: str) -> str:
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    secret = "change%20me" if role.endswith("owner") else "change%20me%20too"
    return urlunsplit(parts._replace(netloc=f"{role}:{secret}@{place}"))


def _run(url: str, sql: str) -> None:
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(sql)


@pytest.fixture(scope="module")
def url(empty_database: Callable[[str], str]) -> str:
    """A database made as the documentation says."""
    document = (ROOT / "docs/operations.md").read_text()
    before, after = re.findall(r"```sql\n(.*?)```", document, re.DOTALL)
    url = empty_database("roles")
    _run(url, before)
    flask("db", "upgrade", database_url=_as("ratelimiter_owner", url))
    _run(_as("ratelimiter_owner", url), after)
    return url


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = create_engine(_as("ratelimiter_app", url))
    yield engine
    engine.dispose()


def test_the_application_can_do_its_work(engine: Engine) -> None:
    with Session(engine) as session:
        changes = RuleChanges(session, 1, AUTHOR)
        stored, _ = changes.put(Rule(id=-1, client_id="a", limits=(Limit(1, 1),)))
        changes.edit(stored.id, lambda rule: rule)
        changes.roll_back(stored.id, 1)
        changes.merge([Rule(id=-1, client_id="b", limits=(Limit(1, 1),))], replace=True)
        tenant = Tenants(session).create("second", AUTHOR)
        record, _ = ApiKeys(session, tenant.id).create(tenant.id, "key", ["check"], None, AUTHOR)
        used = KeyUse(engine)
        used.note(record.id)
        used.flush()
        assert ApiKeys(session, None).get(record.id).last_used_at is not None
        Tenants(session).delete(tenant.id, AUTHOR)
        _, total = History(session, 1).events(AuditFilter(), 0, 1)
        assert total >= 6
    assert SnapshotSource(engine).other_than(None) is not None


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_events SET actor = 'nobody'",
        "DELETE FROM audit_events",
        "TRUNCATE audit_events",
        "ALTER TABLE audit_events ADD COLUMN hidden boolean",
        "DROP TABLE audit_events",
    ],
)
def test_the_application_cannot_rewrite_the_audit(engine: Engine, statement: str) -> None:
    with engine.connect() as connection, pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
        connection.execute(text(statement))


def test_only_the_owner_prunes(engine: Engine, url: str) -> None:
    with Session(engine) as session, pytest.raises(ProgrammingError, match="permission denied"):
        prune(session, audit_days=1, versions_kept=1)
    owner = create_engine(_as("ratelimiter_owner", url))
    with Session(owner) as session:
        session.execute(
            text(
                "INSERT INTO audit_events (tenant_id, actor, action, subject, correlation_id, at)"
                " SELECT 1, 'a', 'b', 'c', '-', now() - interval '2 days' FROM generate_series(1, 3)"
            )
        )
        session.commit()
        assert prune(session, audit_days=1, versions_kept=1)[0] == 3
    owner.dispose()
