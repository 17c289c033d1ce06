"""Long work in short pieces, between which a worker's other greenlets get their turn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

import gevent

T = TypeVar("T")

PIECE = 250  # rules: a millisecond or two
REST_SECONDS = 0.001  # a timer, because sleep(0) may come back before the hub has looked at its sockets


class Pace(Protocol):
    """Hands on what it is given, and may take its time."""

    def __call__(self, items: Iterable[T], /) -> Iterable[T]: ...


def at_once(items: Iterable[T]) -> Iterable[T]:
    return items


def unhurried(items: Iterable[T]) -> Iterator[T]:
    """The items, with a rest after each PIECE of them."""
    for number, item in enumerate(items, start=1):
        if number % PIECE == 0:
            gevent.sleep(REST_SECONDS)
        yield item
