"""A node and stores on a real cluster: everything that works on one server works there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from app.limiter.compiled_rule import Charge
from app.limiter.decision import Outcome
from app.limiter.denied_clients import DeniedClients
from app.limiter.errors import Redirected, StoreUnavailable
from app.limiter.keys import CLUSTER_SLOTS, Keyspace, health_key, slot
from app.limiter.redis.cluster import LOOKS_ALIKE, Cluster
from app.limiter.redis.endpoint import Address, RedisEndpoint
from app.limiter.redis.inspection import RedisInspection
from app.limiter.redis.preflight import names_a_member
from app.limiter.redis.store import RedisStore, connect
from app.limiter.redis.tenant_cleanup import TenantCleanup
from app.rules.rule_book import RulesetId
from tests.conftest import flask
from tests.support.acl import PASSWORD
from tests.support.cluster_stores import RULE, charges_everywhere, cluster_of_one, found_cluster, loaded, store_at
from tests.support.deciders import new_client
from tests.support.node import Node
from tests.support.topologies import CLUSTER_USER, ClusterGroup, Group, cluster_group, eventually


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, sockets: Path) -> Iterator[ClusterGroup]:
    with cluster_group(tmp_path_factory.mktemp("cluster"), sockets) as running:
        yield running


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory, sockets: Path) -> Iterator[tuple[Group, int]]:
    with cluster_of_one(tmp_path_factory.mktemp("stranger"), sockets) as running:
        yield running


@pytest.fixture(scope="module")
def node(cluster: ClusterGroup, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    data_dir = tmp_path_factory.mktemp("node")
    with Node(redis_url=cluster.url, database_url=database_url, data_dir=data_dir, REDIS_TIMEOUT_MS=5000) as running:
        yield running


def test_slots_are_those_of_redis(cluster: ClusterGroup) -> None:
    for key in (new_client() + b":1:1T", b"rl:{limited:7}:123", health_key(lambda number: number > CLUSTER_SLOTS // 2)):
        assert slot(key) == cluster.ask(cluster.primaries[0], "CLUSTER", "KEYSLOT", key)


def test_a_node_says_and_does_what_it_does_with_one_server(
    node: Node, database_url: str, cluster: ClusterGroup
) -> None:
    clients = [f"of the cluster {number}" for number in range(12)]
    node.put_rule(client_id="of the cluster *", rate=3, window=3600)
    for client in clients:
        assert [node.check(client)["allowed"] for _ in range(5)] == [True] * 3 + [False] * 2
    for number in range(12):  # on each of three primaries some
        lease = {"client_id": f"of the cluster, leased {number}", "permits": 100}
        granted = node.request("POST", "/v1/leases", key=None, json=lease).json()
        assert granted["granted"] == 100
        returned = node.request("POST", f"/v1/leases/{granted['lease_id']}/return", key=None, json={"unused": 100})
        assert returned.json()["returned"] > 0  # the bucket has refilled a little meanwhile
    denied = "/v1/admin/limited"
    assert node.eventually(lambda: {told["client_id"] for told in node.request("GET", denied).json()} >= set(clients))
    [reading] = node.request("GET", f"/v1/admin/counters?client_id={clients[0]}&limit_key=x").json()[:1]
    assert reading["remaining"] == 0
    assert node.request("POST", "/v1/admin/counters/reset", json={"client_id": clients[0]}).status_code == 204
    assert node.eventually(lambda: node.check(clients[0], cost=0)["remaining"] == 3)
    said = flask("counters", "reset", clients[1], database_url=database_url, REDIS_URL=cluster.url)
    assert "counters reset" in said
    assert node.eventually(lambda: node.check(clients[1], cost=0)["remaining"] == 3)
    state = node.request("GET", "/health", key=None).json()
    assert (state["status"], state["redis_available"]) == ("healthy", True)
    breaker = node.request("GET", "/circuit-breaker-status", key=None).json()
    assert breaker == {"state": "closed", "failure_count": 0, "time_until_retry_seconds": 0.0}
    assert PASSWORD not in node.log.read_text()


def test_probes_ask_every_primary_and_charge_nothing(cluster: ClusterGroup) -> None:
    store, breakers = store_at(cluster.url)
    assert [type(outcome) for outcome in store.check(store.probes())] == [Outcome] * 3
    assert breakers.status().state == "closed"
    assert {cluster.owner(slot(probe.client)) for probe in store.probes()} == set(cluster.primaries)


def test_a_deleted_tenants_keys_leave_every_primary(cluster: ClusterGroup) -> None:
    store, _ = store_at(cluster.url)
    keyspace, deleted, other = Keyspace(b"secret"), 12, 13
    clients = [keyspace.client(tenant, f"client {number}") for tenant in (deleted, other) for number in range(30)]
    store.check([Charge(RULE, client, 1) for client in clients])
    rules = SimpleNamespace(book=SimpleNamespace(ruleset_id=RulesetId(1, b"secret")))
    limited = DeniedClients(store=store, rules=rules, clock=time.time)
    subject = TenantCleanup(store=store, rules=rules, denied_clients=limited, settle_seconds=0)
    assert subject.forget(deleted) == 30
    left = store.check([Charge(RULE, client, 0) for client in clients])
    assert [outcome.remaining for outcome in left if isinstance(outcome, Outcome)] == [5] * 30 + [4] * 30


def test_an_address_of_one_member_is_refused_at_the_start(
    cluster: ClusterGroup, database_url: str, tmp_path: Path
) -> None:
    """Of a replica too. The line says what to write, and no password."""
    for port in (cluster.primaries[0], cluster.replicas[0]):
        url = f"redis://ratelimiter:{PASSWORD}@127.0.0.1:{port}/0"
        assert names_a_member(url)
        (own := tmp_path / str(port)).mkdir()
        with pytest.raises(AssertionError, match=r"redis\+cluster://") as refused:
            Node(redis_url=url, database_url=database_url, data_dir=own).start()
        [line] = [line for line in str(refused.value).splitlines() if line.startswith("REDIS_URL=")]
        assert f"redis://ratelimiter:***@127.0.0.1:{port}/0" in line
    assert not names_a_member(cluster.url)


def test_one_that_becomes_a_member_is_found_out(cluster: ClusterGroup) -> None:
    connection = connect(
        f"redis://ratelimiter:{PASSWORD}@127.0.0.1:{cluster.primaries[0]}/0", timeout_ms=20_000, clock=time.monotonic
    )
    store = RedisStore(connection)
    rules = SimpleNamespace(book=SimpleNamespace(ruleset_id=RulesetId(1, b"secret")))
    found = RedisInspection(store=store, deciding=store, single=True, rules=rules, clock=time.time).look()
    assert (list(found.causes), found.unable) == (["redis_cluster_member"], True)
    connection.drop()


def test_a_cluster_is_looked_at_primary_by_primary(cluster: ClusterGroup) -> None:
    store, _ = store_at(cluster.url)
    rules = SimpleNamespace(book=SimpleNamespace(ruleset_id=RulesetId(1, b"secret")))
    inspection = RedisInspection(store=store, deciding=store, single=False, rules=rules, clock=time.time)
    assert inspection.look().causes == {}
    last = cluster.primaries[-1]
    try:
        cluster.ask(last, "CONFIG", "SET", "maxmemory", "1gb", "maxmemory-policy", "allkeys-lru")
        assert list(inspection.look().causes) == ["redis_evicts"]
    finally:
        cluster.ask(last, "CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "noeviction")


def test_new_clients_share_a_counter_wherever_it_is(cluster: ClusterGroup, database_url: str, tmp_path: Path) -> None:
    settings = {"REDIS_TIMEOUT_MS": 5000, "MAX_NEW_CLIENTS_PER_MINUTE": 1, "WEB_CONCURRENCY": 1}
    with Node(redis_url=cluster.url, database_url=database_url, data_dir=tmp_path, **settings) as node:
        node.put_rule(client_id="flood *", rate=20, window=3600)
        left = [node.check(f"flood {number}")["remaining"] for number in range(12)]
    assert min(left) <= 19 - 8  # the first of each minute has a counter of its own


def test_the_url_may_name_a_replica_and_servers_that_are_away(cluster: ClusterGroup) -> None:
    account = cluster.url.partition("@")[0]
    store, _ = store_at(f"{account}@127.0.0.1:1,127.0.0.1:{cluster.replicas[0]}")
    eventually(store.ping)
    assert all(isinstance(outcome, Outcome) for outcome in store.check(charges_everywhere()))


def test_most_servers_of_the_url_tell_which_cluster_it_is(cluster: ClusterGroup, stranger: tuple[Group, int]) -> None:
    account, group, port = cluster.url.partition("@")[0], *stranger
    url = f"{account}@127.0.0.1:{port},127.0.0.1:{cluster.primaries[0]},127.0.0.1:{cluster.replicas[1]}"
    store, _ = store_at(url)
    assert all(isinstance(outcome, Outcome) for outcome in store.check(charges_everywhere()))
    assert group.ask(port, "DBSIZE") == 0


@pytest.mark.parametrize("in_a_cluster", [True, False])
def test_nobody_is_sent_to_a_server_of_another_kind(
    cluster: ClusterGroup, stranger: tuple[Group, int], in_a_cluster: bool
) -> None:
    """Where a server leads to an address that is another's now, of another cluster or of none."""
    group, port = stranger
    if not in_a_cluster:
        port = group.start(aclfile=group.users(*CLUSTER_USER))
    store, _ = store_at(cluster.url)
    charge = charges_everywhere(1)
    assert isinstance(store.check(charge)[0], Outcome)
    store._cluster.moved(slot(charge[0].client), Address("127.0.0.1", port))
    refused = store.check(charge)[0]
    assert isinstance(refused, StoreUnavailable)
    assert ("is a member of another cluster" if in_a_cluster else "cluster support disabled") in str(refused)
    eventually(lambda: gevent.sleep(0.01) or isinstance(store.check(charge)[0], Outcome))
    assert group.ask(port, "DBSIZE") == 0


def test_a_cluster_that_was_set_up_anew_is_followed(cluster: ClusterGroup, stranger: tuple[Group, int]) -> None:
    group, port = stranger
    store, _ = store_at(f"{cluster.url.partition('@')[0]}@127.0.0.1:{port}")
    charge = charges_everywhere(1)
    assert isinstance(store.check(charge)[0], Outcome)
    group.ask(port, "FLUSHALL")
    group.ask(port, "CLUSTER", "RESET", "HARD")
    found_cluster(group, port)
    group.ask(port, "CLIENT", "KILL", "TYPE", "normal")
    eventually(lambda: gevent.sleep(0.01) or isinstance(store.check(charge)[0], Outcome))


def test_lost_scripts_are_loaded_again_where_they_were_lost(cluster: ClusterGroup) -> None:
    store, _ = store_at(cluster.url)
    store.load_scripts()
    loads = [loaded(cluster, port) for port in cluster.primaries]
    cluster.ask(cluster.primaries[1], "SCRIPT", "FLUSH")
    assert all(isinstance(outcome, Outcome) for outcome in store.check(charges_everywhere()))
    grown = [loaded(cluster, port) > before for port, before in zip(cluster.primaries, loads, strict=True)]
    assert grown == [False, True, False]


def test_a_redirection_teaches_the_new_place(cluster: ClusterGroup) -> None:
    store, breakers = store_at(cluster.url)
    charge = charges_everywhere(1)[0]
    assert isinstance(store.check([charge])[0], Outcome)
    source = cluster.owner(slot(charge.client))
    target = next(port for port in cluster.primaries if port != source)
    cluster.move(slot(charge.client), target)
    [outcome] = store.check([charge])
    assert isinstance(outcome, Outcome)
    assert outcome.remaining == 3
    assert breakers.status().failure_count == 0
    moved = cluster.ask(source, "INFO", "errorstats")
    store.check([charge])
    assert cluster.ask(source, "INFO", "errorstats") == moved


def test_keys_on_their_way_are_asked_for_where_they_go(cluster: ClusterGroup) -> None:
    """A slot that was begun to be moved: a new client goes to its target, what is there already stays."""
    store, _ = store_at(cluster.url)
    here, there = charges_everywhere(1)[0], charges_everywhere(1)[0]
    while slot(there.client) != slot(here.client):
        there = charges_everywhere(1)[0]
    assert isinstance(store.check([here])[0], Outcome)
    source = cluster.owner(slot(here.client))
    target = next(port for port in cluster.primaries if port != source)
    names = {port: cluster.ask(port, "CLUSTER", "MYID") for port in (source, target)}
    cluster.ask(target, "CLUSTER", "SETSLOT", slot(here.client), "IMPORTING", names[source])
    cluster.ask(source, "CLUSTER", "SETSLOT", slot(here.client), "MIGRATING", names[target])
    outcomes = [store.check([here, there]) for _ in range(2)]
    assert [[outcome.remaining for outcome in pair if isinstance(outcome, Outcome)] for pair in outcomes] == [
        [3, 4],
        [2, 3],
    ]
    assert store.send([(b"UNLINK", there.client + b":12345:1F")], "reset") == [1]
    assert cluster.move(slot(here.client), target) == 1
    assert [o.remaining for o in store.check([here, there]) if isinstance(o, Outcome)] == [1, 4]


def test_slots_that_nobody_has_fail_alone(cluster: ClusterGroup) -> None:
    store, breakers = store_at(cluster.url)
    charges = charges_everywhere()
    lost = slot(charges[0].client)
    owner = cluster.owner(lost)
    for port in sorted(cluster.servers, key=lambda port: port != owner):  # first: what he says he has, others believe
        cluster.ask(port, "CLUSTER", "DELSLOTS", lost)
    eventually(lambda: not store.ping())
    outcomes = store.check(charges)
    assert isinstance(outcomes[0], StoreUnavailable)
    assert all(isinstance(o, Outcome) for o, c in zip(outcomes, charges, strict=True) if slot(c.client) != lost)
    cluster.ask(owner, "CLUSTER", "ADDSLOTS", lost)
    eventually(store.ping)
    assert breakers.status().state == "closed"


def test_the_word_of_another_worker_outweighs_the_map_of_one_primary(cluster: ClusterGroup) -> None:
    """Which may not have heard of the change yet: it is asked for again, but not for ever."""
    maps: list[Address] = []

    class Counted(Cluster):
        def _learn(self, told_by: Address, ranges: list[Any]) -> None:
            maps.append(told_by)
            super()._learn(told_by, ranges)

    _, breakers = store_at(cluster.url)
    subject = Counted(RedisEndpoint(cluster.url, 5), timeout_ms=5000, breakers=breakers, clock=time.monotonic)
    subject.primaries()
    breakers.announce()
    eventually(lambda: gevent.sleep(0.01) or subject._followed == breakers.changes)
    assert len(maps) == 1 + LOOKS_ALIKE


def test_a_dead_primary_opens_its_own_breaker_alone(cluster: ClusterGroup) -> None:
    """The last test with this cluster."""
    store, breakers = store_at(cluster.url, timeout_ms=1000)
    charges = charges_everywhere()
    store.check(charges)
    dead = cluster.owner(slot(charges[0].client))
    mine = [cluster.owner(slot(charge.client)) == dead for charge in charges]
    for port in (*cluster.replicas, dead):  # nobody takes over
        cluster.servers[port].kill()
    for _ in range(10):
        outcomes = store.check(charges)
        assert [isinstance(outcome, StoreUnavailable) for outcome in outcomes] == mine
    assert str(outcomes[0]) == f"circuit of 127.0.0.1:{dead} open"
    assert breakers.status().state == "open"
    assert not store.ping()
    # With another one gone there is no majority. What is left says so, and that is nothing against it.
    another, left = (port for port in cluster.primaries if port != dead)
    kept = next(charge for charge in charges if cluster.owner(slot(charge.client), left) == left)
    cluster.servers[another].kill()
    eventually(lambda: str(store.check([kept])[0]).startswith("CLUSTERDOWN"))
    assert all(isinstance(store.check([kept])[0], Redirected) for _ in range(10))
    assert breakers.of(f"redis 127.0.0.1:{left}").status().failure_count == 0
