"""One worker's map of a cluster's slots to primaries, and its connection to each primary.

Any server's CLUSTER SLOTS gives the whole map; redirections give single slots. A background greenlet reads the map
again when it may be outdated. Hints are a redirection, a failure of a primary in any worker of the node, and another
worker's notice that the primaries have changed.

Addresses can be reassigned to other servers, and REDIS_URL may be wrong. A server whose map names no known member of
this cluster is not connected to, and its map is ignored.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence
from typing import Any

import gevent
import hiredis
from gevent.event import Event
from pybreaker import CircuitBreakerError
from redis.connection import AbstractConnection
from redis.exceptions import ConnectionError, RedisError

from app.limiter.breaker.breaker import Breaker
from app.limiter.breaker.per_primary import PrimaryBreakers
from app.limiter.errors import StoreError, StoreUnavailable
from app.limiter.keys import CLUSTER_SLOTS
from app.limiter.redis.cluster_maps import Ranges, ask_for_maps, believed, ids_in, is_foreign, told_by
from app.limiter.redis.connection import RedisConnection
from app.limiter.redis.endpoint import Address, RedisEndpoint
from app.limiter.redis.packing import packed
from app.limiter.redis.store import ELSEWHERE, RedisStore, multiplexed
from app.observability.background import forever

REFRESH_SECONDS = 0.5  # least time between two reads of the map
# Maps with unchanged primaries before a notice is settled: one server alone may not know of the change yet.
LOOKS_ALIKE = 3
GRACE_SECONDS = 5.0  # before the connection to a former primary is closed
DISCOVERY = "redis cluster"  # name of the breaker for the first map


class MemberStore(RedisStore):
    """The store of one primary. The keys of one call must be in one slot.

    CLUSTERDOWN comes at once and concerns the whole cluster, so it does not open this server's breaker.
    """

    elsewhere = (*ELSEWHERE, "CLUSTERDOWN")

    def __init__(self, connection: RedisConnection) -> None:
        super().__init__(connection, together=1)


class AskingStore(MemberStore):
    """Asks a primary about slots that are still migrating to it (ASKING)."""

    def _call(self, commands: Sequence[bytes], operation: str, work_us: int = 0) -> list[Any]:
        asking = packed(b"ASKING")
        return super()._call([word for command in commands for word in (asking, command)], operation, work_us)[1::2]


class Primary:
    """A server that has, or had, slots of the cluster. `breaker` is the node's breaker for this server."""

    __slots__ = ("address", "arriving", "breaker", "connection", "name_in_errors", "store")

    def __init__(self, address: Address, connection: RedisConnection, breaker: Breaker) -> None:
        self.address = address
        self.connection = connection
        self.store = MemberStore(connection)
        self.arriving = AskingStore(connection)
        self.breaker = breaker
        self.name_in_errors = f"of {address} "


class Cluster:
    """Belongs to the first worker that uses it. `clock` is monotonic seconds."""

    def __init__(
        self, endpoint: RedisEndpoint, *, timeout_ms: int, breakers: PrimaryBreakers, clock: Callable[[], float]
    ) -> None:
        self._endpoint = endpoint
        self._timeout_ms = timeout_ms
        self._breakers = breakers
        self._clock = clock
        self._discovery = breakers.of(DISCOVERY)
        self._slots: list[Primary | None] = [None] * CLUSTER_SLOTS
        self._known: dict[Address, Primary] = {}
        self._members: set[bytes] = set()  # ids of the cluster's members, from its map
        self._learnt, self._doubted = Event(), Event()
        self._following = False
        self._followed = 0  # the last change on the node that this worker's map includes
        self._looked = 0, 0  # the change that is being checked, and the number of maps read since
        self._why = "none has answered yet"

    def primaries(self) -> set[Primary]:
        """Return all primaries of the map. Raises StoreUnavailable."""
        return _primaries(self.slots())

    def slots(self) -> list[Primary | None]:
        """Return the primary of each slot, None for an unassigned one.

        Raises StoreUnavailable if no map is known after the timeout.
        """
        if not self._learnt.is_set():
            self.doubt()
            try:
                self._discovery.call(self._await_map)
            except CircuitBreakerError:
                raise StoreUnavailable(f"no server of the cluster answers with its slots: {self._why}") from None
        return self._slots

    def primary(self, address: Address) -> Primary:
        """Return the server at this address, even if the map does not contain it yet."""
        known = self._known.get(address)
        if known is None:
            connection = multiplexed(lambda: self._connected(address), timeout_ms=self._timeout_ms, clock=self._clock)
            known = self._known[address] = Primary(address, connection, self._breakers.of(_name(address)))
        return known

    def moved(self, slot: int, address: Address) -> None:
        """Record a redirection: this slot is at that address."""
        self._slots[slot] = self.primary(address)
        self.doubt()

    def doubt(self) -> None:
        """Request a new read of the map soon."""
        self._doubted.set()
        if not self._following:
            self._following = True
            gevent.spawn(forever, "following the cluster", self._follow)

    def _await_map(self) -> None:
        if not self._learnt.wait(self._timeout_ms / 1000):
            raise StoreUnavailable(f"no server of the cluster answers with its slots: {self._why}")

    def _follow(self) -> None:
        changes = self._breakers.changes
        if self._doubted.wait(REFRESH_SECONDS) or self._breakers.state_number or changes != self._followed:
            self._doubted.clear()
            primaries = list(self._known)
            random.shuffle(primaries)
            before = _primaries(self._slots)
            if any(map(self._learn_from, primaries)) or self._learn_anew():
                self._looked = changes, self._looked[1] + 1 if self._looked[0] == changes else 1
                if _primaries(self._slots) != before or self._looked[1] >= LOOKS_ALIKE:
                    self._followed = changes
            gevent.sleep(REFRESH_SECONDS * random.uniform(0.8, 1.2))

    def _learn_from(self, address: Address) -> bool:
        """Read the map over the existing connection to a primary."""
        try:
            [reply] = self.primary(address).connection.call(packed(b"CLUSTER", b"SLOTS"), 1)
            if isinstance(reply, hiredis.ReplyError) or not reply:
                raise StoreError(reply or "it knows of no slots")
            self._learn(address, self._own(address, reply))
        # Apart from the first two: a malformed map.
        except (RedisError, StoreError, ValueError, TypeError, LookupError) as error:
            self._why = f"{address} ({error})"
            return False
        return True

    def _learn_anew(self) -> bool:
        """Read the map from the servers of the URL."""
        told, failures = ask_for_maps(self._endpoint, self._timeout_ms / 2000, patiently=bool(self._members))
        self._why = failures or self._why
        chosen = believed(told, self._members, len(self._endpoint.addresses))
        if chosen is None:
            return False
        self._learn(chosen, told[chosen])
        return True

    def _connected(self, address: Address) -> AbstractConnection:
        """Connect to a member of this cluster; any server passes while no member is known. Raises RedisError."""
        connection = self._endpoint.connect(address)
        try:
            if self._members:
                self._own(address, told_by(connection))
        except BaseException:
            connection.disconnect()
            raise
        return connection

    def _own(self, address: Address, told: Ranges) -> Ranges:
        if is_foreign(told, self._members):
            raise ConnectionError(f"{address} is a member of another cluster")
        return told

    def _learn(self, teller: Address, ranges: Ranges) -> None:
        """Adopt the map. Raises ValueError or TypeError if it is malformed."""
        slots: list[Primary | None] = [None] * CLUSTER_SLOTS
        for first, last, (host, port, *_), *_ in ranges:
            primary = self.primary(Address(host.decode() if host else teller.host, port))
            slots[first : last + 1] = [primary] * (last + 1 - first)
        before, now = _primaries(self._slots), _primaries(slots)
        self._slots, self._members = slots, ids_in(ranges)
        self._learnt.set()
        if self._discovery.state_number or self._discovery.fail_counter:
            self._discovery.close()
        self._breakers.keep([DISCOVERY, *(_name(primary.address) for primary in now)])
        if before and now != before:
            self._breakers.announce()
        for primary in now - before:
            gevent.spawn(_prepare, primary)
        for primary in set(self._known.values()) - now:
            del self._known[primary.address]
            gevent.spawn_later(GRACE_SECONDS, primary.connection.drop)


def _name(address: Address) -> str:
    """Return the name of the breaker, as logs show it."""
    return f"redis {address}"


def _primaries(slots: list[Primary | None]) -> set[Primary]:
    return {primary for primary in slots if primary}


def _prepare(primary: Primary) -> None:
    """Connect and load the scripts before the first check needs them. If this fails, checks do it."""
    with contextlib.suppress(StoreError):
        primary.store.load_scripts()
