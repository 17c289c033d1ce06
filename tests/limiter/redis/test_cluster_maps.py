"""Which of several maps of a cluster is believed."""

from __future__ import annotations

import logging

import pytest

from app.limiter.redis.cluster_maps import Ranges, believed
from app.limiter.redis.endpoint import Address

HERE, THERE, ELSEWHERE = (Address("redis", port) for port in (1, 2, 3))


def told(*ids: str) -> Ranges:
    """A map of these members, primary and replica by turns."""
    members = [[b"redis", place, name.encode(), []] for place, name in enumerate(ids)]
    return [[place, place, *members[place : place + 2]] for place in range(0, len(members), 2)]


@pytest.mark.parametrize(
    ("members", "maps", "expected", "warned"),
    [
        ("", {HERE: told("a", "b")}, HERE, False),
        ("", {HERE: told("a", "b"), THERE: told("b", "c")}, HERE, False),
        ("", {HERE: told("x"), THERE: told("a", "b"), ELSEWHERE: told("b", "c")}, THERE, True),
        ("", {HERE: told("x"), THERE: told("a")}, HERE, True),  # alike: as the URL has them
        ("a", {HERE: told("x"), THERE: told("x"), ELSEWHERE: told("a", "b")}, ELSEWHERE, True),
        ("a", {HERE: told("x"), THERE: told("x", "y")}, HERE, False),  # set up anew
        ("a", {HERE: told("x")}, None, False),
        ("a", {HERE: told("x"), THERE: told("y"), ELSEWHERE: told("z")}, None, False),
        ("", {}, None, False),
    ],
)
def test_the_map_of_the_same_cluster_then_of_most(
    members: str, maps: dict[Address, Ranges], expected: Address | None, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "app.limiter.redis.cluster_maps")
    assert believed(maps, {member.encode() for member in members}, 3) == expected
    assert bool(caplog.messages) == warned


def test_half_of_the_servers_do_not_make_another_cluster_the_right_one() -> None:
    maps = {HERE: told("x"), THERE: told("x")}
    assert believed(maps, {b"a"}, 3) == HERE
    assert believed(maps, {b"a"}, 4) is None
