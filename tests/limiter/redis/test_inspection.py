"""What is found out about a Redis that cannot keep its promises: a real one, set up wrongly."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import redis

from app.limiter.compiled_rule import Charge, CompiledRule
from app.limiter.decision import Outcome
from app.limiter.errors import StoreUnavailable
from app.limiter.redis.inspection import IN_USE_SECONDS, RedisInspection
from app.limiter.redis.preflight import COMMANDS, names_a_member
from app.limiter.redis.scripts import all_scripts
from app.limiter.redis.store import RedisStore, connect
from app.rules.rule import ALGORITHMS, Limit, Rule
from app.rules.rule_book import RulesetId
from devstack import Valkey
from tests.support.acl import PASSWORD, acl_command
from tests.support.deciders import new_client
from tests.support.topologies import eventually

LIMITS = tuple(Limit(5, 3600, algorithm, counter=place) for place, algorithm in enumerate(ALGORITHMS, 1))
PLAN = CompiledRule(Rule(id=12345, client_id="*", limits=LIMITS))


class Looked(NamedTuple):
    """A server, what checks it, and what looks at it."""

    admin: redis.Redis
    deciding: RedisStore
    inspection: RedisInspection

    @property
    def causes(self) -> dict[str, str]:
        return self.inspection.look().causes

    def checked(self) -> Outcome:
        [outcome] = self.deciding.check([Charge(PLAN, new_client(), 1)])
        assert isinstance(outcome, Outcome)
        return outcome


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, sockets: Path) -> Iterator[Valkey]:
    own = sockets / secrets.token_hex(4)
    own.mkdir()
    with Valkey(data_dir=tmp_path_factory.mktemp("looked at") / "valkey", socket_dir=own, durable=False) as running:
        yield running


@pytest.fixture
def admin(server: Valkey) -> Iterator[redis.Redis]:
    """Undoes what a test has set."""
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        client.execute_command(*acl_command())
        yield client
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")
        client.flushall()


def looking(url: str, secret: bytes = b"secret", at: float = 1000.0) -> RedisInspection:
    store = RedisStore(connect(url, timeout_ms=20_000, clock=time.monotonic))
    rules = SimpleNamespace(book=SimpleNamespace(ruleset_id=RulesetId(1, secret)))
    return RedisInspection(store=store, check_store=store, single=True, rules=rules, clock=lambda: at)


@pytest.fixture
def url(server: Valkey) -> str:
    return server.url.replace("://", f"://ratelimiter:{PASSWORD}@", 1)


@pytest.fixture
def looked(url: str, admin: redis.Redis) -> Iterator[Looked]:
    deciding, store = (RedisStore(connect(url, timeout_ms=20_000, clock=time.monotonic)) for _ in range(2))
    rules = SimpleNamespace(book=SimpleNamespace(ruleset_id=RulesetId(1, b"secret")))
    yield Looked(
        admin, deciding, RedisInspection(store=store, check_store=deciding, single=True, rules=rules, clock=time.time)
    )
    deciding.drop()
    store.drop()


def test_with_one_that_is_set_up_well_nothing_is_found(looked: Looked, url: str) -> None:
    found = looked.inspection.look()
    assert (found.causes, found.unable, found.shared, found.memory_used) == ({}, False, False, 0.0)
    assert not names_a_member(url)


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_one_that_evicts_is_found_out(looked: Looked, policy: str) -> None:
    looked.admin.config_set("maxmemory-policy", policy)
    assert looked.causes == {}  # without a bound nothing is evicted
    looked.admin.config_set("maxmemory", "1gb")
    found = looked.inspection.look()
    assert list(found.causes) == ["redis_evicts"]
    assert policy in found.causes["redis_evicts"]
    assert not found.unable


def test_one_that_is_nearly_full_is_found_out_before_it_is(looked: Looked) -> None:
    used = looked.admin.info("memory")["used_memory"]
    looked.admin.config_set("maxmemory", 2 * used)
    found = looked.inspection.look()
    assert found.causes == {}
    assert 0.3 < found.memory_used < 0.8
    looked.admin.config_set("maxmemory", round(1.03 * used))
    found = looked.inspection.look()
    assert list(found.causes) == ["redis_full"]
    assert not found.unable


def test_one_that_takes_no_charges_is_unable(looked: Looked) -> None:
    looked.admin.config_set("maxmemory", "1mb")
    found = looked.inspection.look()
    assert (list(found.causes), found.unable) == (["redis_full"], True)
    assert "OOM" in found.causes["redis_full"]


def test_scripts_call_commands_in_the_one_way_that_is_read(admin: redis.Redis) -> None:
    calls = sum(script.source.count(b"redis.") for script in all_scripts())
    assert calls == sum(script.source.count(b"redis.call('") for script in all_scripts())
    granted = {word.removeprefix("+").upper() for word in acl_command() if word.startswith("+")}
    assert {name.decode() for name in COMMANDS} < granted


@pytest.mark.parametrize("command", [*map(bytes.decode, COMMANDS), "EVALSHA", "SCRIPT|LOAD"])
def test_without_a_command_that_scripts_need_nothing_is_decided_and_nothing_half_charged(
    looked: Looked, command: str
) -> None:
    """Neither by a new connection, nor once a look has found out about one in use."""
    assert looked.checked().allowed
    looked.admin.execute_command("ACL", "SETUSER", "ratelimiter", f"-{command.lower()}")
    found = looked.inspection.look()
    assert (list(found.causes), found.unable) == (["redis_permission"], True)
    assert f"may not run {command.replace('|', ' ')}," in found.causes["redis_permission"]
    before = set(looked.admin.scan_iter())
    with pytest.raises(StoreUnavailable, match=command.replace("|", " ")):
        looked.checked()
    assert set(looked.admin.scan_iter()) == before
    looked.admin.execute_command("ACL", "SETUSER", "ratelimiter", f"+{command.lower()}")
    assert looked.causes == {}
    assert looked.checked().allowed


def test_a_check_that_meets_a_lost_permission_is_the_last_on_its_connection(looked: Looked) -> None:
    assert looked.checked().allowed
    looked.admin.execute_command("ACL", "SETUSER", "ratelimiter", "-pexpire")
    [outcome] = looked.deciding.check([Charge(PLAN, new_client(), 1)])
    assert isinstance(outcome, StoreUnavailable)
    with pytest.raises(StoreUnavailable, match="PEXPIRE"):
        looked.checked()


def test_a_user_that_may_not_see_the_memory_is_no_cause(looked: Looked) -> None:
    looked.admin.execute_command("ACL", "SETUSER", "ratelimiter", "-info")
    looked.admin.acl_log_reset()
    looked.admin.config_set("maxmemory", "1gb")
    looked.admin.config_set("maxmemory-policy", "allkeys-lru")
    assert looked.causes == {}
    assert looked.admin.acl_log() == []  # it was not even tried


def test_one_that_is_away_is_said_to_be(admin: redis.Redis) -> None:
    found = looking("redis://127.0.0.1:1/0").look()
    assert (list(found.causes), found.unable) == (["redis"], True)
    assert not names_a_member("redis://127.0.0.1:1/0")


def test_another_deployment_is_noticed_while_it_is_there(looked: Looked, url: str) -> None:
    ours, theirs = (looking(url, secret) for secret in (b"secret", b"that of another deployment"))
    assert not ours.look().shared
    assert not ours.look().shared
    assert theirs.look().shared
    for _ in range(3):  # nodes of ours
        assert looking(url, at=1001.0).look().shared
    assert not looking(url, at=1001.0 + IN_USE_SECONDS).look().shared  # since the other has not looked again
    assert all(0 < looked.admin.ttl(key) <= 3600 for key in looked.admin.scan_iter("rl:*"))


def test_nodes_on_one_redis_see_the_same_mark_and_on_another_database_another(url: str, admin: redis.Redis) -> None:
    first, second = looking(url, at=1000.0).look().mark, looking(url, at=2000.0).look().mark
    assert first is not None
    assert first[0] == 1000.0
    assert second == first
    admin.execute_command("ACL", "SETUSER", "ratelimiter", "+select")
    assert looking(url.replace("?db=0", "?db=1")).look().mark not in (None, first)
    admin.flushall()
    assert looking(url).look().mark not in (None, first)


def test_a_cluster_of_one_member_serves_as_a_single_server(tmp_path: Path, sockets: Path) -> None:
    own = sockets / secrets.token_hex(4)
    own.mkdir()
    options = {"cluster-enabled": "yes"}
    with Valkey(data_dir=tmp_path / "valkey", socket_dir=own, durable=False, options=options) as member:
        with redis.Redis.from_url(member.url) as admin:
            admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            eventually(lambda: b"cluster_state:ok" in admin.execute_command("CLUSTER", "INFO"))
        assert looking(member.url).look().causes == {}
        assert not names_a_member(member.url)
