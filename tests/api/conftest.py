"""What the tests of the HTTP interface share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask

from app import create_app
from app.config import Settings
from tests.support.node import Node

PutRules = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def client() -> str:
    """A client id of the test's own: no other test spends its quota."""
    return f"client-{uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def put_rules(node: Node) -> PutRules:
    """Stores rules on the shared node, and waits once until every worker decides by them."""

    def put(*rules: dict[str, Any]) -> list[dict[str, Any]]:
        answers = [node.request("POST", "/v1/admin/rules", json=rule) for rule in rules]
        assert {answer.status_code for answer in answers} <= {200, 201}, [answer.text for answer in answers]
        node.await_rules()
        return [answer.json() for answer in answers]

    return put


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """The application of this source tree, for looking at its routes. It is connected to nothing.

    Without request metrics: those are registered once in a process, and other tests may make an application too.
    """
    handlers, level = logging.root.handlers[:], logging.root.level
    with pytest.MonkeyPatch.context() as environment:
        environment.chdir(tmp_path_factory.mktemp("app"))
        environment.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
        environment.setenv("ENABLE_METRICS", "false")
        environment.setenv("LOG_LEVEL", "CRITICAL")
        environment.setenv("DATA_DIR", str(Path.cwd()))
        yield create_app(Settings.from_env())
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
