"""Checks whose counters lie on several primaries of a real cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import gevent
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.limiter.breaker.per_primary import PrimaryBreakers
from app.limiter.compiled_rule import Charge
from app.limiter.decision import Check, Decision
from app.limiter.errors import Unavailable
from app.limiter.joint.placement import prefixes, spans
from app.limiter.keys import slot
from app.limiter.redis.cluster_store import ClusterStore
from app.rules.errors import NotFound
from app.rules.rule import FAIL_MODES, Limit, Rule
from tests.limiter.redis.test_cluster import store_at
from tests.support.examples import examples
from tests.support.histories import FLOODS, HISTORIES, LIMITS, follow
from tests.support.layered import Current, book, rule
from tests.support.limiters import leases_of, limiter_of
from tests.support.topologies import ClusterGroup, cluster_group

OWN, ORG, EVERYONE = 7, 20, 30  # rules


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, sockets: Path) -> Iterator[ClusterGroup]:
    with cluster_group(tmp_path_factory.mktemp("cluster"), sockets) as running:
        yield running


@pytest.fixture(scope="module")
def store(cluster: ClusterGroup) -> ClusterStore:
    return store_at(cluster.url)[0]


def rules(
    own: int = 5, org: int = 50, everyone: int = 1000, algorithm: str = "fixed_window", **fields: Any
) -> list[Rule]:
    return [
        rule(OWN, "*", limits=(Limit(own, 3600, algorithm),), **fields),
        rule(ORG, group="org:*", layer="org", shared=True, limits=(Limit(org, 3600, algorithm),), **fields),
        rule(EVERYONE, "*", layer="z", shared=True, limits=(Limit(everyone, 3600, algorithm),), **fields),
    ]


class Subject:
    """A limiter on the cluster, under keys of its own."""

    def __init__(self, store: ClusterStore, *given: Rule, **parts: Any) -> None:
        self.store = store
        self.limiter = limiter_of(Current(book(*given)), store, **parts)
        self.org = f"org:{uuid4().hex}"

    def checks(self, *clients: str, **fields: Any) -> list[Any]:
        return self.limiter.check([(1, self.asked(client, **fields)) for client in clients])

    def asked(self, client: str, **fields: Any) -> Check:
        return Check(client, **{"groups": (self.org,)} | fields)

    def charge(self, client: str) -> Charge:
        return self.limiter.current_rules().charge(1, self.asked(client))

    def used(self, client: str) -> list[int]:
        """Units in the counters of a client, by rule: own, org, everyone."""
        charge = self.charge(client)
        peeks = [
            Charge(part, prefix, 0)
            for part, prefix in zip(charge.compiled.parts, prefixes(charge), strict=True)  # type: ignore[attr-defined]
        ]
        return [
            peek.compiled.rule.limits[0].rate - outcome.remaining  # type: ignore[union-attr]
            for peek, outcome in zip(peeks, self.store.check(peeks), strict=True)
        ]

    def client_apart(self, primaries: int = 3) -> str:
        """A client whose own counter, its org's and everyone's lie on so many primaries."""
        slots = self.store._cluster.slots()
        names = (uuid4().hex for _ in range(10_000))
        for name in names:
            self.org = f"org:{name}"
            if len({slots[slot(prefix)] for prefix in prefixes(self.charge(name))}) == primaries:
                return name
        raise AssertionError


def verdicts(answers: Sequence[Any]) -> list[tuple[bool, int, int]]:
    return [(answer.allowed, answer.compiled.rule.id, answer.outcome.remaining) for answer in answers]


def test_several_primaries_decide_as_one(store: ClusterStore) -> None:
    subject = Subject(store, *rules(own=2, org=3))
    client = subject.client_apart()
    assert spans(subject.charge(client))
    assert verdicts(subject.checks(client, client, client, "b" + client, "c" + client)) == [
        (True, OWN, 1),
        (True, OWN, 0),
        (False, OWN, 0),
        (True, ORG, 0),
        (False, ORG, 0),
    ]
    assert subject.used(client) == [2, 3, 3]
    assert subject.used("c" + client) == [0, 3, 3]
    peeks = subject.checks(client, "c" + client, cost=0)
    assert [(peek.allowed, peek.outcome.remaining) for peek in peeks] == [(True, 0)] * 2


def test_checks_of_one_client_are_decided_in_their_order(store: ClusterStore) -> None:
    """Also those that another slot denies, and a rule that one slot decides."""
    subject = Subject(store, *rules(own=4, org=2), rule(8, "*", endpoint="alone", limits=(Limit(2, 3600),), layer="a"))
    client = subject.client_apart()
    asked = [
        subject.asked(client, cost=3),  # beyond its org
        subject.asked(client, cost=2),
        subject.asked(client, limit_key="alone", groups=()),
        subject.asked(client, cost=1),
        subject.asked(client, cost=0),
    ]
    answers = subject.limiter.check([(1, check) for check in asked])
    assert [answer.allowed for answer in answers if isinstance(answer, Decision)] == [False, True, True, False, True]
    assert subject.used(client)[:2] == [3, 2]


def test_a_request_id_is_charged_once(store: ClusterStore) -> None:
    subject = Subject(store, *rules())
    client = subject.client_apart()
    [first] = subject.checks(client, request_id="id")
    assert verdicts(subject.checks(client, client, request_id="id")) == verdicts([first] * 2)
    assert subject.used(client) == [1, 1, 1]


@pytest.mark.parametrize("algorithm", ["fixed_window", "sliding_window", "sliding_window_counter", "gcra"])
def test_no_more_than_the_limit_of_all_at_once(store: ClusterStore, algorithm: str) -> None:
    """200 greenlets, each the first and second check of a client. No counter is above its limit at any time."""
    subject = Subject(store, *rules(own=1, org=50, everyone=40, algorithm=algorithm))
    client, most = subject.client_apart(), [0, 0, 0]

    def looked() -> None:
        while len(answers) < 400:
            most[:] = map(max, zip(most, subject.used(client), strict=True))

    answers: list[Any] = []
    watching = gevent.spawn(looked)
    asking = [gevent.spawn(lambda name=f"{client} {n % 200}": answers.extend(subject.checks(name))) for n in range(400)]
    gevent.joinall([watching, *asking], raise_error=True)
    admitted = sum(answer.allowed for answer in answers)
    assert admitted == 40 == subject.used(client)[2]
    assert subject.used(client)[1] == 40
    assert sum(subject.used(f"{client} {n}")[0] for n in range(200)) == 40
    assert most[1] <= 50
    assert most[2] <= 40


def test_a_denial_is_remembered_briefly_where_units_may_be_on_their_way_back(
    store: ClusterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a slot after which others come; a denial by the last slot for a second, as with one server."""
    now, asked, decide = [1000.0], [], store.decide
    monkeypatch.setattr(store, "decide", lambda parts: asked.append(len(parts)) or decide(parts))

    def trips(subject: Subject, client: str, seconds: float) -> int:
        now[0] += seconds
        asked.clear()
        assert not subject.checks(client)[0].allowed
        return len(asked)

    alone, full = (Subject(store, *rules(own=1, org=org)[:2], clock=lambda: now[0]) for org in (9, 1))
    client = alone.client_apart(2)
    assert alone.checks(client)[0].allowed
    assert [trips(alone, client, seconds) for seconds in (0, 0.04, 0.02)] == [2, 0, 2]
    client = full.client_apart(2)
    assert full.checks(client)[0].allowed
    assert [trips(full, f"{client} 2", seconds) for seconds in (0, 0.9, 0.2)] == [3, 0, 3]
    assert [trips(full, f"{client} 3", seconds) for seconds in (0.9, 0.2)] == [0, 3]  # the counter is known to be full


def test_slots_that_move_change_nothing(store: ClusterStore, cluster: ClusterGroup) -> None:
    subject = Subject(store, *rules(own=10_000, org=100_000, everyone=100_000))
    client = subject.client_apart()
    answers: list[Any] = []

    def move() -> None:
        for prefix in prefixes(subject.charge(client)):
            source = cluster.owner(slot(prefix))
            cluster.move(slot(prefix), next(port for port in cluster.primaries if port != source))

    moving = gevent.get_hub().threadpool.spawn(move)
    while not moving.ready():
        answers += subject.checks(client, f"{client} 2")
    moving.get()
    assert not any(answer.degraded for answer in answers)
    admitted = sum(answer.allowed for answer in answers)
    assert admitted == len(answers) > 10
    assert subject.used(client) == [admitted // 2, admitted, admitted]


def test_together_over_all_primaries(store: ClusterStore) -> None:
    subject = Subject(store, *rules(own=3, org=5))
    client = subject.client_apart()

    def together(*costs: int) -> list[Any]:
        return subject.limiter.check_together(
            [(1, subject.asked(f"{client} {place}", cost=cost)) for place, cost in enumerate(costs)]
        )

    assert [answer.allowed for answer in together(2, 3)] == [True, True]
    assert [subject.used(f"{client} {place}") for place in range(2)] == [[2, 3, 3], [3, 3, 3]]
    assert verdicts(together(1, 1)) == [(True, OWN, 1), (False, OWN, 0)]
    assert verdicts(together(0, 0, 3)) == [(True, OWN, 1), (True, OWN, 0), (False, ORG, 2)]
    assert [subject.used(f"{client} {place}") for place in range(3)] == [[2, 3, 3], [3, 3, 3], [0, 3, 3]]


def test_leases_are_granted_in_every_slot(store: ClusterStore) -> None:
    subject = Subject(store, *rules(own=20, org=12))
    client = subject.client_apart()
    leases = leases_of(subject.limiter)
    assert subject.checks(f"{client} 2", cost=2)[0].allowed

    def asked(permits: int) -> Any:
        return leases.acquire((1, subject.asked(client, cost=permits)), 60_000)

    grant = asked(15)
    assert (grant.granted, grant.decision.compiled.rule.id, subject.used(client)) == (10, ORG, [10, 12, 12])
    assert asked(1).granted == 0
    assert subject.used(client) == [10, 12, 12]
    assert [leases.release(1, grant.lease_id, 4) for _ in range(2)] == [4, 4]
    assert subject.used(client) == [6, 8, 8]
    with pytest.raises(NotFound):
        leases.release(1, grant.lease_id[:-1] + ("B" if grant.lease_id[-1] == "A" else "A"), 4)


def test_leases_at_the_same_time_add_up(store: ClusterStore) -> None:
    """With checks between their trips. What one slot lacks by then comes back in the others."""
    subject = Subject(store, *rules(own=100, org=30))
    client = subject.client_apart()
    leases = leases_of(subject.limiter)
    granted: list[int] = []

    def lease(name: str) -> None:
        granted.append(leases.acquire((1, subject.asked(name, cost=8)), 60_000).granted)

    gevent.joinall([gevent.spawn(lease, f"{client} {n % 3}") for n in range(9)], raise_error=True)
    assert sum(granted) == subject.used(client)[1] <= 30
    assert sum(subject.used(f"{client} {n}")[0] for n in range(3)) == sum(granted) == subject.used(client)[2]
    assert sum(granted) > 22


@pytest.mark.parametrize("algorithm", ["fixed_window", "token_bucket"])
def test_equal_checks_that_are_denied_say_the_same(store: ClusterStore, algorithm: str) -> None:
    """The later ones of a batch see what the first charged in the client's own counter, on its way back."""
    subject = Subject(store, *rules(own=5, org=4, algorithm=algorithm))
    client = subject.client_apart()
    first, *others = subject.checks(*[client] * 4, cost=3)
    assert (first.allowed, first.outcome.remaining) == (True, 1)
    assert [answer.outcome for answer in others] == [others[0].outcome] * 3
    assert not others[0].allowed
    subject = Subject(store, *rules(own=5, org=3, algorithm=algorithm))
    client = subject.client_apart()
    assert verdicts(subject.checks(*[client] * 2, cost=4)) == [(False, ORG, 3)] * 2


@settings(max_examples=examples(90), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limits=LIMITS, events=HISTORIES | FLOODS, remembers=st.booleans())
def test_every_answer_of_a_history_is_that_of_the_model(
    store: ClusterStore, limits: Any, events: list[Any], remembers: bool
) -> None:
    """Over three layers whose counters lie anywhere, with edits of rules."""
    follow(store, limits, events, remembers=remembers)


def halves(store: ClusterStore, breakers: PrimaryBreakers, away: int, mode: str) -> Subject:
    """Of the client's own rule and its org's, the one that will be away has this fail_mode. That of the other, which
    would refuse, must not matter.
    """
    modes = {OWN: "closed", ORG: "closed"} | {away: mode}
    own = rule(OWN, "*", limits=(Limit(8, 3600, "gcra"),), fail_mode=modes[OWN])
    limits = (Limit(9, 3600, "gcra"),)
    org = rule(ORG, group="org:*", layer="org", shared=True, limits=limits, fail_mode=modes[ORG])
    return Subject(store, own, org, breaker=breakers)


def client_with(subject: Subject, cluster: ClusterGroup, away: int, dead: int) -> str:
    """A client of which that primary has only the counter of that rule."""
    for name in (uuid4().hex for _ in range(10_000)):
        subject.org = f"org:{name}"
        there = [cluster.owner(slot(prefix)) == dead for prefix in prefixes(subject.charge(name))]
        if there == [away == OWN, away == ORG]:
            return name
    raise AssertionError


def test_without_one_primary_its_rules_say_what_happens(store: ClusterStore, cluster: ClusterGroup) -> None:
    """The last test with this cluster: nobody takes over. Nobody gets a lease, and none leaves a charge."""
    others, breakers = store_at(cluster.url, timeout_ms=500)
    dead = cluster.primaries[0]
    subjects = {(away, mode): halves(others, breakers, away, mode) for away in (OWN, ORG) for mode in FAIL_MODES}
    clients = {case: client_with(subject, cluster, case[0], dead) for case, subject in subjects.items()}
    for case, subject in subjects.items():
        assert not subject.checks(clients[case])[0].degraded
    for port in (*cluster.replicas, dead):
        cluster.servers[port].kill()
    for (away, mode), subject in subjects.items():
        client = clients[away, mode]
        answers = [subject.checks(client)[0] for _ in range(6)]
        with pytest.raises(Unavailable):
            leases_of(subject.limiter).acquire((1, subject.asked(client, cost=3)), 60_000)
        here = 0 if away == ORG else 1
        charge = subject.charge(client)
        part, prefix = charge.compiled.parts[here], prefixes(charge)[here]  # type: ignore[attr-defined]
        [outcome] = others.check([Charge(part, prefix, 0)])
        charged = part.rule.limits[0].rate - outcome.remaining - 1  # type: ignore[union-attr]
        if mode == "closed":
            assert all(isinstance(answer, Unavailable) for answer in answers)
            assert charged == 0
        else:  # a worker of four has two units of the eight or nine
            assert all(answer.degraded for answer in answers)
            admitted = sum(answer.allowed for answer in answers)
            assert admitted == charged == {"open": 6, "local": 2}[mode]
    states = {port: breakers.of(f"redis 127.0.0.1:{port}").status().state for port in cluster.primaries}
    assert states == {port: "open" if port == dead else "closed" for port in cluster.primaries}
