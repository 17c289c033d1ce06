"""Finds the primary through the sentinels for each new connection, and notices when it is replaced.

All sentinels are asked at once, because an isolated one still names the former primary. Every failover needs a new
configuration epoch, so the answer with the highest epoch is the latest; among equals, the most frequent answer counts.

A primary that was replaced by order, or is cut off only from the sentinels, still accepts charges that will be lost.
This lasts about ten seconds, measured. So the sentinels are asked every second, and at once after a failover event.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import gevent
from gevent.event import Event
from redis.connection import AbstractConnection
from redis.exceptions import ConnectionError, RedisError, ResponseError

from app.limiter.redis.endpoint import Address, RedisEndpoint
from app.limiter.redis.sentinel_events import SentinelEvents
from app.observability.background import forever

WATCH_SECONDS = 1.0
ROUND_REST_SECONDS = 0.05  # least time between two rounds, however many events come
KNOWN = 16  # sentinels to remember, any of which may be unreachable


class Disagreement(ConnectionError):
    """The sentinels name several primaries, tied in epoch and number of answers."""


class SentinelReply(NamedTuple):
    """The answer of one sentinel. `epoch`: its configuration epoch, -1 if unknown. `others`: the sentinels it knows."""

    primary: Address
    epoch: int
    others: tuple[Address, ...] = ()


class Sentinels:
    """Belongs to one worker. Asks the sentinels of the URL and those that they report.

    `give_up` is called if the named primary differs from the last connected one, or the sentinels disagree. The call is
    repeated until a connection to the new primary opens. `replaced` is called for a newly named primary, and in each
    later round until it returns True.
    """

    def __init__(
        self,
        endpoint: RedisEndpoint,
        give_up: Callable[[], None],
        replaced: Callable[[], bool] = lambda: True,
        watch_seconds: float = WATCH_SECONDS,
    ) -> None:
        self._endpoint = endpoint
        self._give_up = give_up
        self._replaced = replaced
        self._watch_seconds = watch_seconds
        self._known = list(endpoint.addresses)
        self._primary: Address | None = None  # of the last connection
        self._announced: Address | None = None  # needs no further call of `replaced`
        self._epoch = -1  # the highest epoch seen
        self._hinted = Event()
        self._events = SentinelEvents(endpoint, self._hinted.set)
        self._watching = False

    def connect(self) -> AbstractConnection:
        """Return a connection to a server that itself claims to be the primary. Raises RedisError if there is none.

        Each step may take the timeout: connecting to the sentinels, their answers, and likewise for the server.
        """
        if not self._watching:
            self._watching = True
            gevent.spawn(forever, "watching the sentinels", self._watch)
        return self._opened(self._named())

    def _watch(self) -> None:
        self._hinted.wait(self._watch_seconds * random.uniform(0.8, 1.2))
        self._hinted.clear()
        before = self._primary
        named: Address | None = None
        try:
            named = self._named()
            lost = named != before
        except Disagreement:
            lost = True
        except RedisError:  # no sentinel answers: the current connection stays
            lost = False
        self._events.follow(self._known)
        if lost and before == self._primary:
            self._give_up()
            if named and named != self._announced and self._replaced():
                self._announced = named
        gevent.sleep(ROUND_REST_SECONDS)

    def _named(self) -> Address:
        """Return the primary by all answers, or as soon as more than half of the known sentinels agree.

        A majority with a lower epoch than seen before may not know of a failover yet, so all answers are awaited.
        """
        answers, failures = [], []
        asking = {gevent.spawn(self._asked, sentinel): sentinel for sentinel in self._known}
        try:
            for asked in gevent.iwait(asking):
                if isinstance(asked.value, SentinelReply):
                    answers.append(asked.value)
                else:
                    failures.append(f"{asking[asked]} ({asked.value})")
                if _settled(answers, len(asking), self._epoch):
                    break
        finally:
            gevent.killall(list(asking), block=False)
        if not answers:
            raise ConnectionError(f"no sentinel names a primary of {self._endpoint.master}: {', '.join(failures)}")
        newest = max(answer.epoch for answer in answers)
        # A lower epoch is accepted if all sentinels answer with it: they were set up anew.
        self._epoch = newest if len(answers) == len(asking) else max(newest, self._epoch)
        self._known = remembered(self._endpoint.addresses, (other for answer in answers for other in answer.others))
        return latest(answers)

    def _asked(self, sentinel: Address) -> SentinelReply | Exception:
        try:
            return self._ask(sentinel)
        except (RedisError, LookupError, TypeError, ValueError) as error:  # apart from the first: a malformed answer
            return error

    def _ask(self, sentinel: Address) -> SentinelReply:
        connection = self._endpoint.connect_to_sentinel(sentinel)
        try:
            master = self._endpoint.master
            asked = [("SENTINEL", what, master) for what in ("GET-MASTER-ADDR-BY-NAME", "SENTINELS", "MASTER")]
            connection.send_packed_command(connection.pack_commands(asked))
            found, others = connection.read_response(), connection.read_response()
            epoch = _epoch(connection)
        finally:
            connection.disconnect()
        if not found:
            raise ConnectionError(f"knows no primary of {master}")
        told = tuple(_address(other[b"ip"], other[b"port"]) for other in map(_fields, others))
        return SentinelReply(_address(*found), epoch, told)

    def _opened(self, address: Address) -> AbstractConnection:
        connection = self._endpoint.connect(address)
        try:
            connection.send_command("ROLE")
            role: list[Any] = connection.read_response()
            if role[0] != b"master":
                raise ConnectionError(f"{address} is not a primary")
        except BaseException:
            connection.disconnect()
            raise
        self._primary = self._announced = address
        return connection


def latest(answers: Sequence[SentinelReply]) -> Address:
    """Return the primary with the highest epoch, then the most answers. Raises Disagreement on a tie."""
    votes = Counter(answer.primary for answer in answers)
    epochs = {primary: max(answer.epoch for answer in answers if answer.primary == primary) for primary in votes}
    first, *others = sorted(votes, key=lambda primary: (epochs[primary], votes[primary]), reverse=True)
    if others and (epochs[others[0]], votes[others[0]]) == (epochs[first], votes[first]):
        raise Disagreement(f"the sentinels disagree whether {first} or {others[0]} is the primary")
    return first


def remembered(named: Iterable[Address], others: Iterable[Address]) -> list[Address]:
    """Return the sentinels to ask next time: those of the URL, then as many others as fit."""
    return list(dict.fromkeys([*named, *others]))[:KNOWN]


def _settled(answers: Sequence[SentinelReply], asked: int, epoch: int) -> bool:
    """Whether more than half of those asked give the same answer, with this epoch or a later one."""
    alike = Counter((answer.epoch, answer.primary) for answer in answers)
    return any(2 * number > asked and said >= epoch for (said, _), number in alike.items())


def _epoch(connection: AbstractConnection) -> int:
    """Return the configuration epoch; -1 if the sentinel withholds it from this user."""
    try:
        return int(_fields(connection.read_response())[b"config-epoch"])
    except (ResponseError, LookupError, TypeError, ValueError):
        return -1


def _address(host: bytes, port: bytes) -> Address:
    return Address(host.decode(), int(port))


def _fields(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
