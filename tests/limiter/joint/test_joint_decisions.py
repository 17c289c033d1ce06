"""Several rules decide one check on the real server: all of their limits are charged, or none is."""

from __future__ import annotations

import os
import time
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.api.check.encoding import MAX_POLICIES, Encoder
from app.limiter.algorithms import decide
from app.limiter.compiled_rule import Charge, CompiledRule
from app.limiter.decision import Check, Decision, Outcome, Question
from app.limiter.errors import RequestIdConflict, Unavailable
from app.limiter.fallback.local_store import LocalStore
from app.limiter.joint.joint_rule import joined
from app.limiter.limiter import Limiter
from app.limiter.redis.store import RedisStore, connect
from app.rules.errors import NotFound
from app.rules.matching.layer_bounds import MAX_LAYERS
from app.rules.rule import ALGORITHMS, Limit, Rule
from tests.support.deciders import START, new_client
from tests.support.examples import examples
from tests.support.layered import Current, book, decided, limiter, rule
from tests.support.limiters import leases_of

ORG = rule(20, group="org:*", layer="org", shared=True, limits=(Limit(3, 3600, "gcra"),))
LOGIN = rule(30, "*", layer="protection", endpoint="login", limits=(Limit(2, 3600, "fixed_window"),))


@pytest.fixture
def nowhere(tmp_path: os.PathLike[str]) -> RedisStore:
    return RedisStore(connect(f"unix://{tmp_path}/nobody.sock", timeout_ms=50, clock=time.monotonic))


def in_org(client_id: str = "a", limit_key: str = "x", **fields: object) -> Check:
    return Check(client_id, limit_key, **{"groups": ("org:7",)} | fields)  # type: ignore[arg-type]


def summary(decisions: list[Decision]) -> list[tuple[bool, int, int]]:
    return [(each.allowed, each.compiled.rule.id, each.outcome.remaining) for each in decisions]


def test_the_rule_of_the_binding_limit_speaks_for_all(store: RedisStore) -> None:
    subject, _ = limiter(store, rule(7, "a"), rule(8, "b"), ORG, LOGIN)
    login, other, last, beyond = (in_org("a", "login"), in_org("a"), in_org("b"), in_org("b"))
    assert summary([decided(subject, check)[0] for check in (login, other, last, beyond)]) == [
        (True, 30, 1),
        (True, 20, 1),
        (True, 20, 0),
        (False, 20, 0),
    ]
    assert summary(decided(subject, in_org("b", cost=0, groups=()), in_org("a", "login", cost=0))) == [
        (True, 8, 4),
        (True, 20, 0),
    ]


def test_a_denial_charges_nobody_and_its_wait_is_the_longest(store: RedisStore) -> None:
    short = rule(20, group="org:*", layer="org", shared=True, limits=(Limit(1, 60, "fixed_window"),))
    subject, _ = limiter(store, rule(7, "*", limits=(Limit(2, 3600, "fixed_window"),)), short)
    assert [decision.allowed for decision in decided(subject, *[in_org()] * 3)] == [True, False, False]
    [peek] = decided(subject, in_org(cost=0, groups=()))
    assert (peek.compiled.rule.id, peek.outcome.remaining) == (7, 1)  # its own counter was charged once
    [denied] = decided(subject, in_org(cost=2))
    assert denied.compiled.rule.id == 20
    assert denied.retry_after_us is None
    assert denied.reason == "cost_exceeds_limit"


@settings(deadline=None, max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pair=st.sampled_from(list(product(ALGORITHMS, ALGORITHMS))),
    checks=st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0, 1, 1, 2, 4])), min_size=1, max_size=25),
)
def test_all_or_nothing_on_every_pair_of_algorithms(
    store: RedisStore, pair: tuple[str, str], checks: list[tuple[int, int]]
) -> None:
    """Two clients share the second counter. The exact model: the Python steps on one state of each counter."""
    own, shared = Limit(4, 60, pair[0], counter=1), Limit(6, 90, pair[1], counter=2)
    joint = joined([CompiledRule(rule(1, "*", limits=(own,))), CompiledRule(rule(2, "*", limits=(shared,)))], (0, 1))
    clients, owner, local = (new_client(), new_client()), new_client(), LocalStore(holders=1)
    states: dict[bytes, object] = {}
    for step, (client, cost) in enumerate(checks):
        now_us = START + step * 7_000_000
        charge = Charge(joint, clients[client], cost, None, (clients[client], owner))
        names = [clients[client], owner]
        changed, expected = decide([states.get(name) for name in names], (own, shared), cost, now_us)
        states.update(zip(names, changed or (), strict=False))
        assert store.check([charge], now_us) == [expected]
        if pair[1] != "sliding_window" != pair[0]:
            assert local.check(charge, now_us)[1] == expected


def test_in_one_batch_a_denial_is_of_all_its_counters(store: RedisStore) -> None:
    """The same client in two groups: the denial of one group says nothing of the other."""
    subject, _ = limiter(store, rule(7, "a", limits=(Limit(100, 3600, "gcra"),)), ORG)
    full = [in_org(groups=("org:1",))] * 4
    answers = decided(subject, *full, in_org(groups=("org:2",)), in_org(groups=("org:1",)))
    assert [answer.allowed for answer in answers] == [True] * 3 + [False, True, False]


def test_in_one_batch_a_charge_ends_the_denials_by_any_of_its_counters(store: RedisStore) -> None:
    subject, _ = limiter(store, rule(7, "*", limits=(Limit(100, 3600, "gcra"),)), ORG, rule(21, group="g", shared=True))
    checks = [in_org(cost=3, groups=()), in_org("b", cost=2), in_org("a", cost=2), in_org("c"), in_org("a", cost=2)]
    answers = decided(subject, *checks)
    assert [answer.outcome.remaining for answer in answers] == [97, 1, 1, 0, 0]


def test_a_request_id_repeats_the_answer_and_belongs_to_its_groups(store: RedisStore) -> None:
    subject, current = limiter(store, rule(7, "a"), ORG)
    once = in_org(request_id="r")
    first, again, conflict = subject.check([(1, once), (1, once), (1, in_org(request_id="r", groups=("org:8",)))])
    assert first == again
    assert isinstance(conflict, RequestIdConflict)
    assert "groups" in str(conflict)
    assert summary(decided(subject, in_org(cost=0))) == [(True, 20, 2)]
    assert current.book is not None
    secret = current.book.ruleset_id.key_secret
    current.book = book(rule(7, "a"), rule(99, "a", layer="org", shared=True), secret=secret)
    [edited] = decided(subject, once)
    assert summary([edited]) == [(True, 20, 2)]  # by the rule of then
    current.book = book(rule(7, "a"), secret=secret)
    assert summary(decided(subject, once)) == [(True, 20, 2)]


def test_shadows_of_every_layer_stand_beside(store: RedisStore) -> None:
    one = (Limit(1, 3600, "gcra"),)
    shadow = rule(9, group="org:*", layer="org", shadow=True, shared=True, limits=one)
    subject, _ = limiter(store, rule(7, "*"), rule(8, "a", shadow=True, limits=(Limit(2, 3600, "gcra"),)), ORG, shadow)
    reasons = [decided(subject, in_org(client_id))[0].reason for client_id in ("a", "a", "b", "b")]
    assert reasons == ["within_limit", "shadow", "shadow", "over_limit"]


def test_the_policies_begin_with_the_binding_limit_and_are_at_most_eight(store: RedisStore) -> None:
    many = tuple(Limit(100 + number, 3600, "gcra", counter=number) for number in range(8))
    subject, _ = limiter(store, rule(7, "a", limits=many), ORG)
    encoder = Encoder("draft-10", 60)
    for _ in range(2):
        [decision] = decided(subject, in_org())
        lines = encoder.head(decision).decode().splitlines()
        policies = lines[1].removeprefix("RateLimit-Policy: ").split(", ")
        assert policies == ['"20";q=3;w=3600', *[f'"7.{number + 1}";q={100 + number};w=3600' for number in range(7)]]
        assert len(policies) == MAX_POLICIES
        assert lines[2].startswith(f'RateLimit: "20";r={decision.outcome.remaining};')
    [alone] = decided(subject, in_org(groups=()))
    assert encoder.head(alone).decode().splitlines()[1].startswith('RateLimit-Policy: "7.1";q=100;w=3600, "7.2"')


@pytest.mark.parametrize(
    ("own", "shared", "strictest"), [("open", "closed", "closed"), ("local", "open", "local"), (None, "open", "local")]
)
def test_without_redis_the_strictest_fail_mode_decides(
    nowhere: RedisStore, own: str | None, shared: str, strictest: str
) -> None:
    org = rule(20, group="org:*", layer="org", shared=True, fail_mode=shared, limits=(Limit(8, 3600, "gcra"),))
    subject, _ = limiter(nowhere, rule(7, "*", fail_mode=own), org, fail_mode="local")
    answers = [subject.check([(1, in_org(client_id))])[0] for client_id in ("a", "b", "c")]
    if strictest == "closed":
        assert all(isinstance(answer, Unavailable) for answer in answers)
    else:  # a quarter of each limit: one unit for each client, two for the group
        found = [(each.allowed, each.compiled.rule.id) for each in answers if isinstance(each, Decision)]
        assert found == [(True, 7), (True, 7), (False, 20)]


def test_without_redis_a_full_counter_stays_full_for_all_who_need_it(store: RedisStore, nowhere: RedisStore) -> None:
    subject, _ = limiter(store, rule(7, "*"), ORG)
    assert [each.allowed for each in decided(subject, *[in_org()] * 4)] == [True] * 3 + [False]
    subject._store = nowhere
    found = decided(subject, in_org("b", cost=2), in_org("b", groups=("org:8",)), in_org("a", groups=()))
    assert [(each.allowed, each.degraded) for each in found] == [(False, True), (True, True), (True, True)]
    assert found[0].compiled.rule.id == 20


def test_without_redis_a_denial_of_many_units_holds_for_its_client_and_rules(
    store: RedisStore, nowhere: RedisStore
) -> None:
    """Its wait may be that of another limit than the binding one."""
    subject, _ = limiter(store, rule(7, "*"), ORG)
    assert [each.allowed for each in decided(subject, in_org(), in_org(cost=3))] == [True, False]
    subject._store = nowhere
    found = decided(subject, in_org(cost=3), in_org("b", cost=3), in_org())
    assert [each.allowed for each in found] == [False, True, True]


def question(client_id: str, units: int, **fields: object) -> Question:
    return 1, in_org(client_id, cost=units, **fields)


def left(subject: Limiter, current: Current, *rules: int) -> list[int]:
    """What is left under each of the rules, for the client of that check."""
    assert current.book is not None
    found = []
    for rule_id in rules:
        only = [each for each in current.book._stored.values() if each.id == rule_id]
        other, _ = limiter(subject._store, *only)
        other._rules.book = book(*only, secret=current.book.ruleset_id.key_secret)  # type: ignore[misc]
        found.append(decided(other, in_org("a", "login", cost=0))[0].outcome.remaining)
    return found


def test_a_lease_grants_the_least_of_all_layers_and_returns_to_each(store: RedisStore) -> None:
    subject, current = limiter(store, rule(7, "a"), ORG, LOGIN)
    leases = leases_of(subject)
    grant = leases.acquire(question("a", 5, limit_key="login"), ttl_ms=60_000)
    assert (grant.granted, grant.decision.compiled.rule.id) == (2, 30)
    assert left(subject, current, 7, 20, 30) == [3, 1, 0]
    assert grant.lease_id is not None
    assert len(grant.lease_id.split("~")) == 3
    assert leases.release(1, grant.lease_id, 1) == 1
    assert left(subject, current, 7, 20, 30) == [4, 2, 1]
    assert leases.release(1, grant.lease_id, 1) == 1
    with pytest.raises(NotFound):
        leases.release(2, grant.lease_id, 1)
    other = leases.acquire(question("a", 1, groups=("org:8",)), ttl_ms=60_000).lease_id
    theirs = [part.split(".")[1] for part in (grant.lease_id, str(other))[1].split("~")][1]
    for forged in (
        grant.lease_id.replace(grant.lease_id.split("~")[1].split(".")[1], theirs),
        grant.lease_id.split("~", 1)[1],
    ):
        with pytest.raises(NotFound):  # the other group's counter, or fewer of its own
            leases.release(1, forged, 1)
    nothing = leases.acquire(question("b", 5, groups=("org:7",)), ttl_ms=60_000)
    assert nothing.granted == 2
    denied = leases.acquire(question("b", 5, groups=("org:7",)), ttl_ms=60_000)
    assert (denied.granted, denied.lease_id, denied.decision.compiled.rule.id) == (0, None, 20)


@pytest.mark.parametrize("rules", [[rule(7, "a", shared=True)], [rule(7, "a"), rule(8, "z", layer="b")]])
def test_a_lease_of_one_rule_is_named_as_before(store: RedisStore, rules: list[Rule]) -> None:
    subject, _ = limiter(store, *rules)
    leases = leases_of(subject)
    grant = leases.acquire(question("a", 4), ttl_ms=60_000)
    assert grant.lease_id is not None
    assert grant.lease_id.startswith("7.")
    assert "~" not in grant.lease_id
    assert leases.release(1, grant.lease_id, 3) == 3
    assert summary(decided(subject, in_org(cost=0))) == [(True, 7, 4)]


@pytest.mark.parametrize("layers", [("default", *map(str, range(MAX_LAYERS - 1))), tuple(map(str, range(MAX_LAYERS)))])
def test_a_lease_of_the_most_layers_is_returned_by_an_id_of_at_most_256_characters(
    store: RedisStore, layers: tuple[str, ...]
) -> None:
    """Also where the built-in default decides beside rules of as many layers as a tenant may have."""
    rules = [rule(99_999_000 + number, "*", layer=layer) for number, layer in enumerate(layers)]
    subject, _ = limiter(store, *rules)
    grant = leases_of(subject).acquire(question("a", 1), ttl_ms=1000)
    assert grant.lease_id is not None
    assert len(grant.lease_id.split("~")) == MAX_LAYERS + ("default" not in layers)
    assert len(grant.lease_id) <= 256
    assert leases_of(subject).release(1, grant.lease_id, 1) == 1


def test_a_decision_says_which_rules_decided_together(store: RedisStore) -> None:
    subject, _ = limiter(store, rule(7, "a"), ORG)
    [both] = decided(subject, in_org())
    [own] = decided(subject, in_org(groups=()))
    assert own.joint is None
    assert both.joint is not None
    assert isinstance(both.outcome, Outcome)
