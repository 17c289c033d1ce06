"""What a node tells the others of itself: of one worker, also after a reload, and nothing that it does not know."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import gevent
import pytest
from sqlalchemy import Engine, create_engine

from app.api.ops import condition
from app.api.ops.condition import Condition
from app.limiter.breaker.breaker import Breaker
from app.limiter.redis.inspection import RedisInspection
from app.limiter.redis.store import RedisStore, connect
from app.nodes import comparison
from app.nodes.comparison import REDIS, SharedClock
from app.nodes.registry import Nodes
from app.observability.background import forever
from app.rules.rule_book import RulesetId
from app.rules.sync.reloader import Freshness
from devstack import Valkey
from tests.support.limiters import breaker_of
from tests.support.node import Node
from tests.support.topologies import eventually

RULES = SimpleNamespace(
    book=SimpleNamespace(ruleset_id=RulesetId(1, b"a secret of these tests")),
    freshness=lambda: Freshness(1, 0.0, database_available=True, rejected=False),
)


@pytest.fixture(scope="module")
def own_database(new_database: Callable[[str], str]) -> str:
    return new_database(__name__)


@pytest.fixture
def engine(own_database: str) -> Iterator[Engine]:
    engine = create_engine(own_database)
    yield engine
    engine.dispose()


def seen_by(engine: Engine, name: str) -> Nodes:
    return Nodes(engine, name=name, own_clock=time.time, clock=SharedClock(time.time))


def condition_of(store: RedisStore, engine: Engine, name: str, breaker: Breaker | None = None) -> Condition:
    subject = Condition(
        store=store,
        inspection=RedisInspection(store=store, deciding=store, single=True, rules=RULES, clock=time.time),
        breaker=breaker or breaker_of(),
        rules=RULES,
        nodes=seen_by(engine, name),
        settings={"ALGORITHM": "gcra"},
        shared_clock=SharedClock(time.time),
        workers=1,
        clock=time.monotonic,
    )
    subject._speaks = True
    return subject


@contextmanager
def watching(*subjects: Condition) -> Iterator[None]:
    """As `start` has them do, until the end."""
    greenlets = [gevent.spawn(forever, "looking", subject._watch) for subject in subjects]
    yield
    gevent.killall(greenlets)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks that take no half minute, and nodes that are believed at once."""
    monkeypatch.setattr(condition, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(comparison, "MARGIN_SECONDS", 0.0)


def turned(holds: Callable[[], bool]) -> None:
    """Eventually, while greenlets run."""
    eventually(lambda: gevent.sleep(0.05) or holds())


@pytest.mark.usefixtures("quick")
def test_a_node_that_asks_no_redis_does_not_say_which_one_it_has(store: RedisStore, engine: Engine) -> None:
    """While its breaker is open another Redis may have come in the place of the one it knew."""
    breaker, other = breaker_of(), seen_by(engine, "other:1")

    def tells() -> bool | None:
        return next((REDIS in node.settings for node in other.look(None) if node.name == "subject:1"), None)

    with watching(condition_of(store, engine, "subject:1", breaker)):
        turned(lambda: tells() is True)
        breaker.open()
        turned(lambda: tells() is False)
        breaker.close()
        turned(lambda: tells() is True)


@pytest.mark.usefixtures("quick")
def test_a_node_without_callers_closes_its_breaker(store: RedisStore, engine: Engine) -> None:
    """Nothing else would ask Redis, and the node would stay degraded until somebody comes."""
    now = [0.0]
    breaker = breaker_of(lambda: now[0])
    with watching(condition_of(store, engine, "idle:1", breaker)):
        breaker.open()
        now[0] += 120
        turned(lambda: breaker.status().state == "closed")


@pytest.mark.usefixtures("quick")
def test_a_node_with_another_database_of_redis_is_named_by_the_others(
    store: RedisStore, valkey: Valkey, engine: Engine
) -> None:
    """As where one has another REDIS_DB."""
    link = connect(valkey.url.replace("db=0", "db=1"), timeout_ms=20_000, clock=time.monotonic)
    here, there = condition_of(store, engine, "here:1"), condition_of(RedisStore(link), engine, "there:1")
    with watching(here, there):
        turned(lambda: bool(here.reasons() and there.reasons()))
        assert "REDIS_URL leads to another Redis on there:1" in here.reasons()["settings"]
        assert "REDIS_URL leads to another Redis on here:1" in there.reasons()["settings"]
        assert not here.healthy
    link.drop()


def test_after_a_reload_a_new_worker_speaks_for_the_node(
    valkey: Valkey, own_database: str, engine: Engine, tmp_path: Path
) -> None:
    """It has spoken before the old one took leave, which takes back only what it said itself."""
    settings = {"redis_url": valkey.url, "database_url": own_database, "data_dir": tmp_path}
    with Node(**settings, WEB_CONCURRENCY=1, REDIS_TIMEOUT_MS=5000) as node:
        others, name = seen_by(engine, "other:1"), f"{socket.gethostname()}:{node.port}"

        def spoke_at() -> float:
            return next((seen.seen_at for seen in others.look(None) if seen.name == name), 0.0)

        assert node.eventually(lambda: spoke_at() > 0)
        first, before = node.workers, spoke_at()
        os.kill(node.pid, signal.SIGHUP)
        assert node.eventually(lambda: len(node.workers) == 1 and node.workers != first)
        assert spoke_at() > before
