"""Changes in the real tables: what they keep, what they number anew, and that they wait for one another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.rules.changes import delete_rule, load_examples, put_rule
from app.rules.database import DatabaseRules
from app.rules.examples import EXAMPLES
from app.rules.models import LimitRow, RuleRow
from app.rules.repository import RuleRepository
from app.rules.rule import Limit, Rule
from app.rules.rule_book import Edition


@pytest.fixture(scope="module")
def engine(new_database: Callable[[str], str]) -> Iterator[Engine]:
    engine = create_engine(new_database("changes"))
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with Session(engine) as session:
        yield session


def rule(client_id: str, *limits: Limit, **fields: object) -> Rule:
    return Rule(id=-1, client_id=client_id, limits=limits or (Limit(5, 60),), **fields)  # type: ignore[arg-type]


def counters(stored: Rule) -> list[int]:
    return [limit.counter for limit in stored.limits]


def test_creating_then_replacing_keeps_the_id_and_raises_the_version(session: Session) -> None:
    first, created = put_rule(session, rule("a", description="one"))
    second, created_again = put_rule(session, rule("a", description="two"))
    assert (created, created_again) == (True, False)
    assert (second.id, first.version, second.version, second.description) == (first.id, 1, 2, "two")
    assert second.updated_at is not None
    assert first.updated_at is not None
    assert second.updated_at > first.updated_at
    assert second.created_at == first.created_at


def test_a_limit_keeps_its_counter_while_algorithm_and_window_stay(session: Session) -> None:
    stored, _ = put_rule(session, rule("b", Limit(5, 60, "gcra"), Limit(9, 1)))
    assert counters(stored) == [1, 2]
    stored, _ = put_rule(session, rule("b", Limit(7, 60, "gcra", burst=3), Limit(8, 1)))
    assert counters(stored) == [1, 2]
    stored, _ = put_rule(session, rule("b", Limit(8, 1), Limit(7, 60, "gcra")))
    assert counters(stored) == [2, 1]  # another order is no other limit
    stored, _ = put_rule(session, rule("b", Limit(8, 2), Limit(7, 60, "fixed_window")))
    assert counters(stored) == [3, 4]
    stored, _ = put_rule(session, rule("b", Limit(8, 1), Limit(7, 60, "gcra")))
    assert counters(stored) == [5, 6]  # back again is new again


def test_a_new_limit_takes_no_counter_from_one_that_stays(session: Session) -> None:
    stored, _ = put_rule(session, rule("b2", Limit(1000, 3600), Limit(10, 60)))
    assert counters(stored) == [1, 2]
    stored, _ = put_rule(session, rule("b2", Limit(5000, 3600), Limit(10, 60), Limit(1000, 3600)))
    assert counters(stored) == [3, 2, 1]
    stored, _ = put_rule(session, rule("b2", Limit(1000, 3600), Limit(5000, 3600)))
    assert counters(stored) == [1, 3]


def test_a_shadow_stands_beside_the_rule_it_tries_a_change_of(session: Session) -> None:
    enforced, _ = put_rule(session, rule("b3"))
    shadow, created = put_rule(session, rule("b3", shadow=True))
    assert created
    assert shadow.id != enforced.id
    assert RuleRepository(session).get(1, enforced.id) == enforced


def test_two_equal_limits_have_two_counters(session: Session) -> None:
    stored, _ = put_rule(session, rule("c", Limit(5, 60), Limit(5, 60)))
    assert counters(stored) == [1, 2]


def test_a_rule_created_after_a_deletion_has_another_id(session: Session) -> None:
    first, _ = put_rule(session, rule("d"))
    assert delete_rule(session, 1, first.id)
    assert not delete_rule(session, 1, first.id)
    second, _ = put_rule(session, rule("d"))
    assert second.id != first.id


def test_a_tenant_cannot_delete_what_is_not_its_own(session: Session) -> None:
    stored, _ = put_rule(session, rule("e"))
    assert not delete_rule(session, 2, stored.id)


def test_every_change_is_a_new_version_of_all_rules(session: Session, engine: Engine) -> None:
    source = DatabaseRules(engine)
    before = source.other_than(None)
    assert before is not None
    assert source.other_than(before.edition) is None
    assert source.other_than(Edition(before.version, b"another database")) == before
    put_rule(session, rule("f"))
    after = source.other_than(before.edition)
    assert after is not None
    assert (after.version, after.key_secret) == (before.version + 1, before.key_secret)
    assert len(after.key_secret) == 32


def test_examples_are_loaded_once_and_a_deleted_one_stays_deleted(session: Session) -> None:
    assert load_examples(session) == len(EXAMPLES)
    login = next(example for example in EXAMPLES if example.endpoint == "login")
    victim = RuleRepository(session).twin(login)
    assert victim is not None
    delete_rule(session, 1, victim.id)
    assert load_examples(session) == 0
    assert RuleRepository(session).twin(login) is None


def test_changes_at_the_same_time_all_count(session: Session, engine: Engine) -> None:
    stored, _ = put_rule(session, rule("g"))
    together = threading.Barrier(8)

    def change(number: int) -> None:
        with Session(engine) as own:
            together.wait(10)
            for _ in range(5):
                put_rule(own, replace(stored, description=str(number)))

    threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    session.expire_all()
    found = RuleRepository(session).get(1, stored.id)
    assert found is not None
    assert found.version == stored.version + 40


@pytest.mark.parametrize(
    "limit",
    [
        {"rate": 0, "window_seconds": 60},
        {"rate": 1, "window_seconds": 0},
        {"rate": 1, "window_seconds": 31_536_001},
        {"rate": 10**9, "window_seconds": 10},
        {"rate": 1, "window_seconds": 60, "burst": 0},
        {"rate": 1, "window_seconds": 60, "algorithm": "leaky"},
    ],
)
def test_the_database_refuses_an_impossible_limit_too(session: Session, limit: dict[str, object]) -> None:
    row = RuleRow(tenant_id=1, client_id="h", next_counter=1)
    row.limits = [LimitRow(position=0, counter=1, **limit)]
    session.add(row)
    with pytest.raises(IntegrityError):
        session.flush()


def test_the_database_refuses_a_second_rule_for_the_same_client_and_endpoint(session: Session) -> None:
    session.add_all([RuleRow(tenant_id=1, client_id="i", next_counter=1) for _ in range(2)])
    with pytest.raises(IntegrityError):
        session.flush()
