"""Real servers for the suite, each started once: Valkey, PostgreSQL built by the real migrations, and a node."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest
import redis
from hypothesis import settings

from app.limiter.redis.store import RedisStore, connect
from devstack import Postgres, Valkey, runtime_directory
from tests.support.acl import PASSWORD, acl_command
from tests.support.examples import PROFILE
from tests.support.node import ROOT, Node
from tests.support.nursery import Nursery
from tests.support.settings import VARIABLES

# The same examples in every run, so that the gate does not depend on luck (tests/support/examples.py).
# No deadline: on a busy machine a fifth of a second passes without any fault of the code.
settings.register_profile("gate", derandomize=True, deadline=None)
settings.register_profile("explore", derandomize=False, deadline=None)
settings.load_profile(PROFILE)

pytest_plugins = ["tests.support.matrix", "tests.support.workers"]


@pytest.fixture(scope="session", autouse=True)
def nursery() -> Iterator[None]:
    with Nursery(ROOT) as Node.nursery:
        yield
    Node.nursery = None


@pytest.fixture(autouse=True)
def _logging_as_at_the_start() -> None:
    """What a test, or a package that it imports, sets up is not for the next one."""
    logging.root.setLevel(logging.WARNING)
    logging.disable(logging.NOTSET)
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("app") and isinstance(logger, logging.Logger):
            logger.disabled, logger.propagate = False, True
            logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def sockets() -> Iterator[Path]:
    with runtime_directory() as directory:
        yield directory


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory, sockets: Path) -> Iterator[Valkey]:
    with Valkey(data_dir=tmp_path_factory.mktemp("redis") / "valkey", socket_dir=sockets, durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def redis_client(valkey: Valkey) -> Iterator[redis.Redis]:
    """A patient client for looking at what the scripts did."""
    with redis.Redis.from_url(valkey.url, decode_responses=True) as client:
        yield client


@pytest.fixture(scope="session")
def limiter_redis_url(valkey: Valkey, redis_client: redis.Redis) -> str:
    """As a user that may do exactly what docs/operations.md grants: what the tests show, they show under that."""
    redis_client.execute_command(*acl_command())
    return valkey.url.replace("://", f"://ratelimiter:{PASSWORD}@", 1)


@pytest.fixture(scope="session")
def store(limiter_redis_url: str) -> Iterator[RedisStore]:
    """A store whose timeout a busy machine cannot reach: time-outs have tests of their own."""
    link = connect(limiter_redis_url, timeout_ms=20_000, clock=time.monotonic)
    yield RedisStore(link)
    link.drop()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory, sockets: Path) -> Iterator[Postgres]:
    data_dir = tmp_path_factory.mktemp("database") / "postgres"
    with Postgres(data_dir=data_dir, socket_dir=sockets, durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def database_url(new_database: Callable[[str], str]) -> str:
    """The database of the shared node: migrated, with the example rules."""
    url = new_database("shared")
    flask("rules", "load-examples", database_url=url)
    return url


@pytest.fixture(scope="session")
def empty_database(postgres: Postgres) -> Callable[[str], str]:
    """Makes a database of the given name with nothing in it."""

    def create(name: str) -> str:
        return create_database(postgres, name)

    return create


@pytest.fixture(scope="session")
def new_database(postgres: Postgres) -> Callable[[str], str]:
    """Makes a database of the given name with the schema, but without rules of other tests.

    The migrations run once. Each database is a copy of what they made, but for the secret: a deployment has its own.
    """
    flask("db", "upgrade", database_url=create_database(postgres, "migrated"))

    def create(name: str) -> str:
        url = create_database(postgres, name, template="migrated")
        with contextlib.closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute("UPDATE rule_book SET key_secret = %s", [secrets.token_hex(32)])
        return url

    return create


@pytest.fixture(scope="session")
def node(limiter_redis_url: str, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """The node most tests talk to: two workers, example rules, the default settings. Use client ids of your own.

    Its Redis timeout is long: on a busy machine 50 ms pass without any fault of Redis.
    """
    data_dir = tmp_path_factory.mktemp("node")
    settings = {"redis_url": limiter_redis_url, "database_url": database_url, "data_dir": data_dir}
    with Node(**settings, REDIS_TIMEOUT_MS=2000) as running:
        yield running


def create_database(postgres: Postgres, name: str, *, template: str = "template1") -> str:
    """A copy of the template, by default an empty database; its URL."""
    with contextlib.closing(psycopg2.connect(postgres.url_of("postgres"))) as connection:
        connection.autocommit = True
        connection.cursor().execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    return postgres.url_of(name)


def flask(*command: str, database_url: str, root: Path = ROOT, **environment: str) -> str:
    """Run a `flask …` command of the code in `root` on this database; its output. Fails the test when it fails."""
    completed = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", *command],
        cwd=root,
        env={"PATH": os.environ["PATH"], "LOG_LEVEL": "WARNING", "DATABASE_URL": database_url} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment without settings, in an empty directory."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
