"""A worker learns of changed rules however busy its connections for the admin API are."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app import create_app
from app.config import Settings
from app.extensions import db
from app.rules.sql.database.engine import ENGINE_OPTIONS
from tests.support.stored import put_rule, rule


@pytest.fixture
def app(engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Flask]:
    """As a worker has it, on the module's database."""
    handlers, level = logging.root.handlers[:], logging.root.level
    settings = {"DATABASE_URL": engine.url.render_as_string(hide_password=False), "DATA_DIR": str(tmp_path)}
    for name, value in (settings | {"ENABLE_METRICS": "false", "LOG_LEVEL": "CRITICAL"}).items():
        monkeypatch.setenv(name, value)
    app = create_app(Settings.from_env())
    with app.app_context():
        yield app
        for each in db.engines.values():
            each.dispose()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def test_the_poller_has_a_connection_while_all_others_are_in_use(app: Flask, session: Session) -> None:
    reloader = app.extensions["ratelimiter"].reloader
    with ExitStack() as busy:
        for _ in range(ENGINE_OPTIONS["pool_size"] + ENGINE_OPTIONS["max_overflow"]):
            busy.enter_context(db.engine.connect())
        for number in range(2):
            stored, _ = put_rule(session, rule("new", description=str(number)))
            reloader.refresh()
            assert reloader.freshness().database_available
            assert reloader.book.rule(1, stored.id).description == str(number)
