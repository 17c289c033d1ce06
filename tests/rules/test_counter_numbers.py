"""Which limits keep their counters when a rule is replaced, in the real tables."""

from __future__ import annotations

from msgspec.structs import replace
from sqlalchemy.orm import Session

from app.rules.rule import Limit
from app.rules.sql.repository import RuleRepository
from tests.support.stored import changes, counters, put_rule, rule


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


def test_two_equal_limits_have_two_counters(session: Session) -> None:
    stored, _ = put_rule(session, rule("c", Limit(5, 60), Limit(5, 60)))
    assert counters(stored) == [1, 2]


def test_a_rule_that_another_repository_read_can_be_replaced(session: Session) -> None:
    stored, _ = put_rule(session, rule("d", Limit(5, 60), Limit(9, 1)))
    changed = replace(stored, limits=(Limit(5, 30), Limit(9, 1)))
    [replaced] = RuleRepository(session).replace([(stored, changed)])
    assert counters(replaced) == [3, 2]
    [again] = RuleRepository(session).replace([(replaced, changed)])
    assert counters(again) == [3, 2]


def test_another_layer_keeps_the_counter_and_another_owner_of_it_starts_a_new_one(session: Session) -> None:
    stored, _ = put_rule(session, rule("g"))
    for fields, expected in [
        ({"layer": "org"}, [1]),
        ({"shared": True}, [2]),
        ({"client_id": "g*"}, [2]),
        ({"client_id": "", "group": "g"}, [3]),
        ({"shared": False}, [4]),
        ({"client_id": "g", "group": None, "layer": "default"}, [5]),
    ]:
        stored = changes(session).edit(stored.id, lambda rule, fields=fields: replace(rule, **fields))
        assert counters(stored) == expected, fields
