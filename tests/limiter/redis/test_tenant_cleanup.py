"""What Redis holds of a deleted tenant goes, all of it and nothing else."""

from __future__ import annotations

import contextlib
import time
from types import SimpleNamespace

import redis
from msgspec.structs import replace

from app.limiter.compiled_rule import ChargeRecord
from app.limiter.compiled_rules import CompiledRules
from app.limiter.decision import Check
from app.limiter.denied_clients import DeniedClients
from app.limiter.errors import StoreError
from app.limiter.keys import lease_name
from app.limiter.redis.scripts import lease_script
from app.limiter.redis.store import RedisStore, connect
from app.limiter.redis.tenant_cleanup import STEP_KEYS, TenantCleanup
from app.rules.rule import Limit, Rule, default_rule
from app.rules.rule_book import RuleBook, Snapshot
from devstack import Valkey

GONE, STAYS = 12, 13
CLIENTS = 2 * STEP_KEYS + 1
LIMITS = (Limit(5, 60, "gcra"), Limit(9, 3600, "gcra", counter=2))
RULE = Rule(id=7, tenant_id=GONE, client_id="*", endpoint="login", limits=LIMITS)
OURS, THEIRS = (
    RuleBook(Snapshot(1, secret, (RULE,)), default=default_rule(100, 60), algorithm="fixed_window")
    for secret in (b"secret", b"that of another deployment")
)


def fill(store: RedisStore, tenant_id: int, book: RuleBook = OURS) -> None:
    """Counters of a rule of the tenant, of the default and of new clients; an answer to an id; a lease; a denial."""
    checks = [Check(client_id=f"client-{number}") for number in range(CLIENTS)]
    checks += [Check(client_id="one", limit_key="login", request_id="a"), Check(client_id="two", new_client=True)]
    charges = [CompiledRules(book).charge(tenant_id, check) for check in checks]
    lease = ChargeRecord(lease_name(charges[0].compiled.counter_names, "nonce"), b"3600000000", lease_script())
    outcomes = [*store.check(charges), *store.check([replace(charges[0], record=lease)])]
    assert not [outcome for outcome in outcomes if isinstance(outcome, StoreError)]
    limited = limited_by(store, book)
    limited.denied(tenant_id, "denied", RULE)
    limited.flush()


def limited_by(store: RedisStore, book: RuleBook) -> DeniedClients:
    return DeniedClients(store=store, rules=SimpleNamespace(book=book), clock=time.time)


def test_a_deleted_tenant_leaves_nothing_in_redis_and_others_keep_all(valkey: Valkey) -> None:
    """Others: another tenant, and one of the same number of a deployment that uses the same Redis."""
    url = valkey.url.replace("?db=0", "?db=10")  # a database of the server that no other test uses
    store = RedisStore(connect(url, timeout_ms=20_000, clock=time.monotonic))
    with contextlib.closing(redis.Redis.from_url(url)) as database:
        database.flushdb()
        subject = TenantCleanup(
            store=store, rules=SimpleNamespace(book=OURS), denied_clients=limited_by(store, OURS), settle_seconds=0
        )
        fill(store, STAYS)
        fill(store, GONE, THEIRS)
        expected = sorted(database.scan_iter())
        fill(store, GONE)
        added = database.dbsize() - len(expected)
        # Two counters and an answer of the login, one counter of new clients, one lease, one set of names.
        assert added == CLIENTS + 6
        assert subject.forget(GONE) == added
        assert sorted(database.scan_iter()) == expected
        assert subject.forget(GONE) == 0
        assert limited_by(store, OURS).most(GONE) == []
        assert [entry.client_id for entry in limited_by(store, THEIRS).most(GONE)] == ["denied"]
    store._connection.drop()
