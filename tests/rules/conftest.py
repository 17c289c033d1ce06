"""A database with the schema for each module that asks for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> Iterator[Engine]:
    """Of the module's own database, which has a second tenant."""
    engine = create_engine(new_database(request.module.__name__))
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO tenants (name) VALUES ('second')"))
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with Session(engine) as session:
        yield session
