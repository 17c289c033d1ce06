"""Splits long work into short pieces, between which a worker's other greenlets run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

PIECE_SECONDS = 0.002
YIELD_SECONDS = 0.001  # a timer, because sleep(0) may return before the hub has polled its sockets
LET_GO = 100  # list items freed between two reads of the clock: 50 µs


class Pace(Protocol):
    """Yields its items, and may pause between them."""

    def __call__(self, items: Iterable[T], /) -> Iterable[T]: ...


def unpaced(items: Iterable[T]) -> Iterable[T]:
    return items


def let_go(pace: Pace, *collections: list[Any] | dict[Any, Any]) -> None:
    """Empty the collections in pieces.

    Freeing 100,000 objects at once takes 30 ms, wherever their last reference ends.
    """
    for things in collections:
        if isinstance(things, dict):
            for _ in pace(range(len(things))):
                things.popitem()
        else:
            for _ in pace(range(0, len(things), LET_GO)):
                del things[-LET_GO:]


class CooperativePace:
    """Pauses whenever its items have used PIECE_SECONDS of the worker's time. `clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    def __call__(self, items: Iterable[T], /) -> Iterator[T]:
        import gevent  # a command needs no pace, and so no gevent

        rest_at = self._clock() + PIECE_SECONDS
        for item in items:
            yield item
            if self._clock() > rest_at:
                gevent.sleep(YIELD_SECONDS)
                rest_at = self._clock() + PIECE_SECONDS


class SharedPace(CooperativePace):
    """One pace for nested iterations, which together are one piece of work and pause together."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._rest_at = clock() + PIECE_SECONDS

    def __call__(self, items: Iterable[T], /) -> Iterator[T]:
        import gevent

        for item in items:
            yield item
            if self._clock() > self._rest_at:
                gevent.sleep(YIELD_SECONDS)
                self._rest_at = self._clock() + PIECE_SECONDS
