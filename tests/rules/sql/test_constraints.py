"""The database refuses invalid rows from any writer: it is the last check before every node decides by them."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.rules.sql.models import LimitRow, RuleRow


@pytest.mark.parametrize(
    "limit",
    [
        {"rate": 0, "window_seconds": 60},
        {"rate": 1, "window_seconds": 0},
        {"rate": 1, "window_seconds": 31_536_001},
        {"rate": 10**9, "window_seconds": 10},
        {"rate": 1, "window_seconds": 60, "burst": 0},
        {"rate": 1, "window_seconds": 60, "algorithm": "leaky"},
    ],
)
def test_the_database_refuses_an_impossible_limit_too(session: Session, limit: dict[str, object]) -> None:
    row = RuleRow(tenant_id=1, client_id="h", next_counter=1)
    session.add(row)
    session.flush()
    session.add(LimitRow(rule_id=row.id, position=0, counter=1, **limit))
    with pytest.raises(IntegrityError):
        session.flush()


def test_the_database_refuses_a_second_rule_for_the_same_client_and_endpoint(session: Session) -> None:
    session.add_all([RuleRow(tenant_id=1, client_id="i", next_counter=1) for _ in range(2)])
    with pytest.raises(IntegrityError):
        session.flush()
