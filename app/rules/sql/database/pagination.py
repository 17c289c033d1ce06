"""One page of a query's rows."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

ROWS_IN_PART = 200  # ORM objects made without a switch, 10 µs each
MAX_OFFSET = 2**31  # no table has so many rows, and PostgreSQL refuses larger numbers at some point


def page_of(session: Session, rows: Select[Any], offset: int, count: int) -> tuple[list[Any], int]:
    """Return at most `count` rows from `offset` on, and the total number of rows."""
    page = slice_of(rows, offset, count).execution_options(yield_per=ROWS_IN_PART)
    return list(session.execute(page).scalars()), total_of(session, rows)


def slice_of(rows: Select[Any], offset: int, count: int) -> Select[Any]:
    return rows.offset(min(offset, MAX_OFFSET)).limit(count)


def total_of(session: Session, rows: Select[Any]) -> int:
    return session.execute(select(func.count()).select_from(rows.order_by(None).subquery())).scalar_one()
