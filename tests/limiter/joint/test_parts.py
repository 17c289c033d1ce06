"""What the scripts of parts charge, give back and leave in Redis."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.limiter.compiled_rule import Charge, ChargeRecord
from app.limiter.decision import EarlierOutcome, Outcome
from app.limiter.errors import RequestIdConflict, StoreFault
from app.limiter.joint.part_calls import read_part_outcome
from app.limiter.joint.parts import ASK, BACK, FINISH, PART, WHOLE, Item, ItemOutcome, Part, PartOutcome
from app.limiter.keys import answer_name, mark_name, meaning
from app.limiter.redis.store import RedisStore
from app.rules.rule import ALGORITHMS, BUCKET_ALGORITHMS, Limit
from tests.support.deciders import SECOND, START, new_client
from tests.support.examples import examples
from tests.support.joints import compiled

EXAMPLES = settings(
    max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
RULES = {algorithm: compiled(700 + n, Limit(10, 60, algorithm)) for n, algorithm in enumerate(ALGORITHMS)}
ALL = compiled(710, *(Limit(10 + n, 60 * (n + 1), algorithm) for n, algorithm in enumerate(ALGORITHMS)))


def item(client: bytes, cost: int = 1, request_id: str | None = None, rule: Any = ALL, key: str = "key") -> Item:
    record = None
    if request_id is not None:
        record = ChargeRecord(answer_name(request_id, shadow=False), meaning(key, cost) + rule.terms)
    return Item(Charge(rule, client, cost, record), tuple(range(len(rule.counter_names))), record)


def part(mode: bytes, *items: Item, message: bytes = b"") -> Part:
    return Part(items[0].charge.client, mode, items, message)


def decided(store: RedisStore, asked: Part, now_us: int = START) -> PartOutcome:
    [outcome] = store.decide([asked], now_us)
    assert isinstance(outcome, PartOutcome), outcome
    return outcome


def give_back(store: RedisStore, charged: Part, outcome: PartOutcome, now_us: int = START) -> None:
    decided(store, Part(charged.key, BACK, charged.items, outcome.undo), now_us)


def seen(outcome: PartOutcome, place: int = 0) -> ItemOutcome:
    found = outcome.outcomes[place]
    assert isinstance(found, ItemOutcome), found
    return found


def left(store: RedisStore, client: bytes, rule: Any = ALL, now_us: int = START) -> int:
    [outcome] = store.check([Charge(rule, client, 0)], now_us)
    assert isinstance(outcome, Outcome)
    return outcome.remaining


def stored(client: redis.Redis, *prefixes: bytes) -> dict[bytes, Any]:
    """All keys with these prefixes: value and expiry."""
    keys = [key for prefix in prefixes for key in client.keys(prefix.decode() + "*")]
    return {key: (client.dump(key), client.expiretime(key)) for key in keys}


@pytest.mark.parametrize("mode", [WHOLE, PART])
def test_one_denial_keeps_all_from_being_charged(store: RedisStore, redis_client: redis.Redis, mode: bytes) -> None:
    one, other = new_client(), new_client()
    store.check([Charge(ALL, other, 8)], START)
    before = stored(redis_client, one, other)
    outcome = decided(store, part(mode, item(one, 2), item(other, 3), item(one, 1, "id")))
    assert (outcome.admitted, outcome.undo) == (False, b"")
    assert [each.before.allowed for each in map(seen, [outcome] * 3, range(3))] == [True, False, True]
    assert seen(outcome, 1).before == seen(outcome, 1).after
    assert stored(redis_client, one, other) == before
    assert decided(store, part(mode, item(one, 2), item(other, 2))).admitted
    assert (left(store, one), left(store, other)) == (8, 0)


def test_an_outcome_is_that_of_a_check(store: RedisStore) -> None:
    client, twin = new_client(), new_client()
    for cost in (3, 4, 0, 5, 10**9):
        [checked] = store.check([Charge(ALL, twin, cost)], START)
        assert isinstance(checked, Outcome)
        found = seen(decided(store, part(WHOLE, item(client, cost)))).after
        assert Outcome(*(getattr(found, name) for name in Outcome.__struct_fields__)) == checked


def test_a_counter_is_charged_once_by_the_greatest_cost(store: RedisStore) -> None:
    client = new_client()
    outcome = decided(store, part(WHOLE, *(item(client, cost) for cost in (2, 5, 0, 3))))
    assert [seen(outcome, place).after.remaining for place in range(4)] == [5] * 4
    assert left(store, client) == 5


def test_asking_charges_nothing(store: RedisStore, redis_client: redis.Redis) -> None:
    client = new_client()
    assert decided(store, part(ASK, item(client, 3, "id"))).admitted
    assert not stored(redis_client, client)


EVENTS = st.lists(st.tuples(st.integers(0, 40 * SECOND), st.integers(1, 3)), max_size=4)


class Twins:
    """Two clients. Both are charged the same; the first also a part, which is given back."""

    def __init__(self, store: RedisStore, algorithm: str) -> None:
        self.rule, self.now, self._store = RULES[algorithm], START, store
        self.subject, self.twin = new_client(), new_client()

    def check(self, cost: int) -> tuple[Outcome, Outcome]:
        charges = [Charge(self.rule, client, cost) for client in (self.subject, self.twin)]
        one, other = self._store.check(charges, self.now)
        assert isinstance(one, Outcome)
        assert isinstance(other, Outcome)
        return one, other

    def charge_part(self, cost: int) -> tuple[Part, PartOutcome]:
        asked = part(PART, item(self.subject, cost, rule=self.rule))
        return asked, decided(self._store, asked, self.now)


@EXAMPLES
@given(before=EVENTS, cost=st.integers(1, 10), wait=st.integers(0, 90 * SECOND), after=EVENTS)
def test_what_came_back_was_never_charged(
    store: RedisStore,
    algorithm: str,
    before: list[tuple[int, int]],
    cost: int,
    wait: int,
    after: list[tuple[int, int]],
) -> None:
    twins = Twins(store, algorithm)
    for later, units in before:
        twins.now += later
        twins.check(units)
    charged, outcome = twins.charge_part(cost)
    twins.now += wait
    if outcome.undo:
        give_back(store, charged, outcome, twins.now)
    for later, units in [(0, 0), (0, 1), *after]:
        twins.now += later
        subject, twin = twins.check(units)
        assert subject == twin


@EXAMPLES
@given(cost=st.integers(1, 4), meanwhile=st.lists(st.tuples(st.integers(0, SECOND), st.integers(1, 2)), max_size=3))
def test_charges_meanwhile_stay(store: RedisStore, algorithm: str, cost: int, meanwhile: list[tuple[int, int]]) -> None:
    """Windows have what they would have; of buckets no more than that comes back."""
    twins = Twins(store, algorithm)
    charged, outcome = twins.charge_part(cost)
    for later, units in meanwhile:
        twins.now += later
        assert twins.check(units)[0].allowed
    twins.now += 1
    give_back(store, charged, outcome, twins.now)
    subject, twin = twins.check(0)
    assert subject.remaining <= twin.remaining
    assert subject.remaining == twin.remaining or algorithm in BUCKET_ALGORITHMS


def test_a_stored_answer_is_repeated_and_takes_no_part(store: RedisStore) -> None:
    client = new_client()
    first = seen(decided(store, part(WHOLE, item(client, 2, "id")))).after
    again = decided(store, part(WHOLE, item(client, 2, "id"), item(client, 3)))
    assert isinstance(again.outcomes[0], Outcome)
    assert again.outcomes[0].remaining == first.remaining == 8
    assert (again.admitted, left(store, client)) == (True, 5)
    [single] = store.check([item(client, 2, "id").charge], START)
    assert single == again.outcomes[0]
    other_terms = compiled(710, Limit(9, 60, "gcra"))
    earlier = decided(store, part(WHOLE, item(client, 2, "id", other_terms))).outcomes[0]
    assert isinstance(earlier, EarlierOutcome)


@pytest.mark.parametrize("mode", [WHOLE, PART])
def test_an_id_of_another_check_denies_all(store: RedisStore, mode: bytes) -> None:
    client = new_client()
    decided(store, part(mode, item(client, 1, "id")))
    for others in ([item(client, 2, "id")], [item(client, 1, "new"), item(client, 1, "new", key="other")]):
        outcome = decided(store, part(mode, *others, item(client, 3)))
        assert any(isinstance(each, RequestIdConflict) for each in outcome.outcomes)
        assert not outcome.admitted
    assert left(store, client) == 9


def test_an_unfinished_id_is_charged_once(store: RedisStore, redis_client: redis.Redis) -> None:
    client = new_client()
    asked = part(PART, item(client, 2, "id"))
    first = decided(store, asked)
    again = decided(store, asked)
    assert (again.admitted, again.undo, left(store, client)) == (True, b"", 8)
    give_back(store, asked, first)  # the second call relies on the charge
    assert left(store, client) == 8
    assert not redis_client.exists(client + mark_name(b":Q:id"))


def test_a_charge_that_came_back_frees_its_id(store: RedisStore, redis_client: redis.Redis) -> None:
    client = new_client()
    asked = part(PART, item(client, 2, "id"))
    give_back(store, asked, decided(store, asked))
    assert not stored(redis_client, client + b":U", client + b":Q")
    assert decided(store, part(PART, item(client, 3, "id"))).admitted
    assert left(store, client) == 7


def test_an_id_can_be_alone_in_its_slot(store: RedisStore, redis_client: redis.Redis) -> None:
    client = new_client()
    own = item(client, 2, "id")
    asked = part(PART, Item(own.charge, (), own.record))
    outcome = decided(store, asked)
    assert (outcome.outcomes, outcome.admitted) == ((None,), True)
    assert redis_client.ttl(client + mark_name(b":Q:id")) > 50
    give_back(store, asked, outcome)
    assert not stored(redis_client, client)


def test_a_finished_id_is_answered(store: RedisStore, redis_client: redis.Redis) -> None:
    client = new_client()
    asked = item(client, 2, "id")
    decided(store, part(PART, asked))
    assert asked.record is not None
    decided(store, part(FINISH, asked, message=b"1 8 0 %d " % START + asked.record.meaning))
    assert store.check([asked.charge], START) == [Outcome(True, 0, 8, 0, 0, START)]
    assert not redis_client.exists(client + mark_name(b":Q:id"))


def test_lost_scripts_are_loaded_again(store: RedisStore, redis_client: redis.Redis) -> None:
    redis_client.script_flush()
    client = new_client()
    assert [type(each) for each in store.decide([part(WHOLE, item(client)), part(ASK, item(client))])] == [
        PartOutcome,
        PartOutcome,
    ]
    assert left(store, client) == 9


RESULT = b"\1\0\0\0" + bytes(35) + b"\0"
REPLIES = [b"", b"x", 7, None, [], [b""], [[], b""], [[b"x"], b""], [[RESULT], 3], [[RESULT] * 3, b""], [RESULT, b""]]


@pytest.mark.parametrize("reply", REPLIES, ids=repr)
def test_nonsense_is_a_fault(reply: Any) -> None:
    assert isinstance(read_part_outcome(reply, part(WHOLE, item(new_client()))), StoreFault)
