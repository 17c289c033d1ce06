"""Nodes see each other in the real database: who is there, what differs, whose clock is off."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text

from app.nodes.comparison import MARGIN_SECONDS, MAX_NAMED, REDIS, Node, SharedClock, difference
from app.nodes.registry import Nodes

MINE = {"ALGORITHM": "gcra", "NODES": "2", REDIS: "mark"}


def seen_from(engine: Engine, name: str, own_clock: Callable[[], float] = time.time) -> Nodes:
    return Nodes(engine, name=name, own_clock=own_clock, clock=SharedClock(own_clock))


@pytest.fixture(autouse=True)
def nobody(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM nodes"))


def test_nodes_see_the_others_that_told_of_themselves_lately(engine: Engine) -> None:
    first, second, quiet = (seen_from(engine, name) for name in ("a:1", "b:1", "c:1"))
    assert first.look(MINE) == []
    [seen] = second.look({"ALGORITHM": "gcra"})
    assert (seen.name, seen.settings) == ("a:1", MINE)
    assert abs(seen.seen_at - time.time()) < 60
    first.look(MINE | {"NODES": "3"})
    assert [(node.name, node.settings.get("NODES")) for node in quiet.look(None)] == [("a:1", "3"), ("b:1", None)]
    second.leave()
    assert [node.name for node in quiet.look(None)] == ["a:1"]
    with engine.begin() as connection:
        connection.execute(text("UPDATE nodes SET seen_at = now() - interval '3 minutes'"))
    assert second.look(MINE) == []
    assert [node.name for node in quiet.look(None)] == ["b:1"]
    with engine.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM nodes")).scalar_one() == 1


def test_a_worker_that_ends_takes_no_leave_where_another_has_spoken_since(engine: Engine) -> None:
    """As at a reload, when the new workers begin before the old ones end."""
    old, new, other = (seen_from(engine, name) for name in ("a:1", "a:1", "b:1"))
    old.look(MINE)
    new.look(MINE | {"NODES": "3"})
    old.leave()
    assert [(node.name, node.settings["NODES"]) for node in other.look(None)] == [("a:1", "3")]
    new.leave()
    assert other.look(None) == []


@pytest.mark.parametrize("off", [3600.0, -3600.0, 30.0])
def test_a_clock_that_is_off_is_corrected_and_said_to_be(engine: Engine, off: float) -> None:
    def own_clock() -> float:
        return time.time() + off

    clock = SharedClock(own_clock)
    assert clock.complaint is None
    Nodes(engine, name="a:1", own_clock=own_clock, clock=clock).look(None)
    assert abs(clock() - time.time()) < 2
    assert clock.complaint is not None
    assert ("ahead of" if off > 0 else "behind") in clock.complaint
    assert str(round(abs(off))) in clock.complaint


def test_a_clock_that_is_nearly_right_is_left_alone(engine: Engine) -> None:
    def own_clock() -> float:
        return time.time() + 1.0

    clock = SharedClock(own_clock)
    Nodes(engine, name="a:1", own_clock=own_clock, clock=clock).look(None)
    assert (clock.ahead_seconds, clock.complaint) == (0.0, None)


def test_an_answer_that_took_long_says_nothing_about_clocks() -> None:
    clock = SharedClock(time.time)
    clock.compared(1000.0, 1100.0, 1006.0)
    assert clock.complaint is None


def test_the_setting_and_the_nodes_are_named() -> None:
    others = [Node(f"n{number}:1", MINE | {"ALGORITHM": "fixed_window"}, 2000.0) for number in range(MAX_NAMED + 2)]
    said = difference(MINE, 1000.0, [*others, Node("z:1", MINE | {"NODES": "5"}, 2000.0)])
    assert said is not None
    assert "ALGORITHM is fixed_window on n0:1, n1:1, n2:1 and 2 more, gcra here; NODES is 5 on z:1, 2 here" in said


def test_the_same_settings_and_those_that_a_node_does_not_tell_are_no_difference() -> None:
    others = [Node("a:1", MINE, 2000.0), Node("b:1", {}, 2000.0), Node("c:1", {"FUTURE": "1"}, 2000.0)]
    assert difference(MINE, 1000.0, others) is None


@pytest.mark.parametrize(("seen_at", "known"), [(1000.0 + MARGIN_SECONDS - 1, False), (1000.0 + MARGIN_SECONDS, True)])
def test_another_redis_is_one_only_if_the_node_has_looked_since_this_one_was_marked(
    seen_at: float, known: bool
) -> None:
    """Else it may be the same one, which has lost what it had."""
    said = difference(MINE, 1000.0, [Node("a:1", MINE | {REDIS: "other mark"}, seen_at)])
    assert (said is not None) == known
    assert not known or "REDIS_URL leads to another Redis on a:1" in str(said)
    assert "mark" not in str(said)
