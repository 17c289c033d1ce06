"""Keys that ended while their last request was on its way, and keys of nodes that do not know their makers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from app.rules.errors import Forbidden
from app.rules.sql.access.api_keys import ApiKeys
from app.rules.sql.snapshot_source import SnapshotSource
from tests.support.stored import AUTHOR

SCOPES = ["keys:write", "check"]


@pytest.mark.parametrize("end", ["revoked_at = now()", "expires_at = now()"])
def test_a_key_that_ended_a_moment_ago_changes_nothing(session: Session, end: str) -> None:
    """Workers may take it for another second."""
    keys = ApiKeys(session, 1)
    (asker, _), (other, _) = (keys.create(1, "key", SCOPES, None, AUTHOR) for _ in range(2))
    session.execute(text(f"UPDATE api_keys SET {end} WHERE id = :id"), {"id": asker.id})
    session.commit()
    late = ApiKeys(session, 1, requested_by=asker.id)
    for change in (
        lambda: late.create(1, "made", ["check"], None, AUTHOR),
        lambda: late.rotate(other.id, 0, AUTHOR),
        lambda: late.revoke(other.id, AUTHOR),
    ):
        with pytest.raises(Forbidden, match="has expired or was revoked"):
            change()
    assert keys.get(other.id).revoked_at is None


def test_a_key_made_during_an_overlap_ends_with_it(session: Session) -> None:
    old, _ = ApiKeys(session, 1).create(1, "old", SCOPES, None, AUTHOR)
    ApiKeys(session, 1).rotate(old.id, 600, AUTHOR)
    made, _ = ApiKeys(session, 1, requested_by=old.id).create(1, "made", ["check"], None, AUTHOR)
    assert made.expires_at is not None
    assert made.expires_at <= datetime.now(UTC) + timedelta(seconds=600)


def test_a_row_of_the_version_before_is_a_key_of_its_own(engine: Engine, session: Session) -> None:
    """A node of that version inserts what it knows; a key made by such a key is its child all the same."""
    session.execute(
        text(
            "INSERT INTO api_keys (id, tenant_id, name, digest, scopes)"
            " VALUES ('oldnode1', 1, 'old', decode(repeat('00', 32), 'hex'), '{keys:write,check}')"
        )
    )
    session.commit()
    assert ApiKeys(session, 1).get("oldnode1").owner == "old (oldnode1)"
    made, _ = ApiKeys(session, 1, requested_by="oldnode1").create(1, "made", ["check"], None, AUTHOR)
    assert (made.owner, made.maker) == ("old (oldnode1)", "oldnode1")
    snapshot = SnapshotSource(engine).other_than(None)
    assert snapshot is not None
    assert {key.id: key.owner for key in snapshot.keys if key.id in ("oldnode1", made.id)} == {
        "oldnode1": None,
        made.id: "old (oldnode1)",
    }
    assert snapshot.tenants == {"default": 1, "second": 2}
