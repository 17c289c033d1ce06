"""Decides checks in a cluster: each primary gets its part of a batch, all at the same time.

The keys of a charge, or of a part, are in one slot, so it is one command to one server. A redirected command was not
run, so it is sent to the other server. Any other error belongs to its charge, and counts only for the breaker of that
primary.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gevent

from app.limiter.breaker.guarded import guarded
from app.limiter.compiled_rule import Charge
from app.limiter.decision import Outcome
from app.limiter.errors import Redirected, StoreError, StoreUnavailable
from app.limiter.joint.parts import Part, PartOutcome
from app.limiter.joint.placement import home
from app.limiter.keys import health_key, slot
from app.limiter.redis.cluster import Cluster, Primary
from app.limiter.redis.endpoint import Address
from app.limiter.redis.store import LOOK, RedisStore, without_errors

REDIRECTIONS = 4  # redirections that a command follows. Two suffice for a slot that moves once
TRYAGAIN_SECONDS = 0.005  # pause before asking again about a slot whose keys are migrating

# A primary, and whether to ask about slots that are still migrating to it (ASKING).
Route = tuple[Primary, bool]
Routes = dict[Route, list[int]]


class ClusterStore:
    spans = True  # the counters of one decision may lie on several servers

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def check(self, charges: Sequence[Charge]) -> list[Outcome | StoreError]:
        """Make one round trip to each primary that has some of the clients.

        Each charge gets its outcome or its own error.
        """

        def ask(route: Route, places: list[int]) -> Sequence[Outcome | StoreError]:
            asked = [charges[place] for place in places]
            found, _ = guarded(route[0].breaker, _store(route).check, asked, route[0].name_in_errors)
            return found

        return self._ask([slot(home(charge) if charge.owners else charge.client) for charge in charges], ask)

    def decide(self, parts: Sequence[Part]) -> list[PartOutcome | StoreError]:
        """Make one round trip to each primary that has some of the parts; they are decided there in their order."""

        def ask(route: Route, places: list[int]) -> Sequence[PartOutcome | StoreError]:
            asked = [parts[place] for place in places]
            found, _ = guarded(route[0].breaker, _store(route).decide, asked, route[0].name_in_errors)
            return found

        return self._ask([slot(part.key) for part in parts], ask)

    def send(self, commands: Sequence[tuple[bytes, ...]], operation: str) -> list[Any]:
        """Send commands as RedisStore does; the second word of each is its key."""

        def ask(route: Route, places: list[int]) -> list[Any]:
            return _store(route).replies([commands[place] for place in places], operation)

        return without_errors(self._ask([slot(words[1]) for words in commands], ask))

    def servers(self) -> list[RedisStore]:
        """Return the primaries, which together have all keys. Raises StoreError."""
        return [primary.store for primary in self._cluster.primaries()]

    def load_scripts(self) -> None:
        """Load the scripts onto every primary. Raises StoreError."""
        for server in self.servers():
            server.load_scripts()

    def ping(self) -> bool:
        """Whether every slot has a primary, and each primary answers a check."""
        return self.trouble() is None

    def trouble(self) -> StoreError | None:
        """Return why some slot has no primary or some primary answers no check; None if all is well."""
        try:
            slots = self._cluster.slots()
        except StoreError as error:
            return error
        asked = _together([partial(_trouble, primary, slots) for primary in self._cluster.primaries()])
        troubles: list[StoreError] = [trouble for trouble in asked if trouble is not None]
        if troubles:
            self._cluster.doubt()
            return troubles[0]
        return StoreUnavailable("some slots of the cluster have no primary") if None in slots else None

    def probes(self) -> list[Charge]:
        """Return a check for each primary that charges nothing. Raises StoreError."""
        slots = self._cluster.slots()
        return [Charge(LOOK, _client_of(primary, slots), 0) for primary in self._cluster.primaries()]

    def _ask(self, slots: list[int], ask: Callable[[Route, list[int]], Sequence[Any]]) -> list[Any]:
        """Return the answer of `ask` for each of the slots, following redirections."""
        answers: list[Any] = [None] * len(slots)
        try:
            routes = self._routes(slots, answers)
        except StoreError as error:
            return [error] * len(slots)
        for redirections in range(REDIRECTIONS + 1):
            parts = _together([partial(_asked, ask, *part) for part in routes.items()])
            for places, found in zip(routes.values(), parts, strict=True):
                for place, answer in zip(places, found, strict=True):
                    answers[place] = answer
            routes = self._redirections(routes, slots, answers) if redirections < REDIRECTIONS else {}
            if not routes:
                break
        return answers

    def _routes(self, slots: list[int], answers: list[Any]) -> Routes:
        """Return the indexes of `slots` by primary. An unassigned slot gets an error as its answer."""
        primaries, places_of = self._cluster.slots(), defaultdict[Primary | None, list[int]](list)
        for place, number in enumerate(slots):
            places_of[primaries[number]].append(place)
        for place in places_of.pop(None, ()):
            answers[place] = StoreUnavailable(f"no primary has slot {slots[place]}")
            self._cluster.doubt()
        return {(primary, False): places for primary, places in places_of.items() if primary}

    def _redirections(self, routes: Routes, slots: list[int], answers: list[Any]) -> Routes:
        """Return the new routes of commands that were not run. Any failure makes the map doubtful."""
        instead, again = defaultdict[Route, list[int]](list), False
        for route, places in routes.items():
            for place in places:
                answer = answers[place]
                if not isinstance(answer, StoreError):
                    continue
                kind, _, rest = str(answer).partition(" ") if isinstance(answer, Redirected) else ("", "", "")
                if kind == "CLUSTERDOWN" or isinstance(answer, StoreUnavailable):
                    self._cluster.doubt()
                elif kind:
                    again |= kind == "TRYAGAIN"
                    instead[self._route(kind, rest, route, slots[place])].append(place)
        if again:
            gevent.sleep(TRYAGAIN_SECONDS)
        return instead

    def _route(self, kind: str, rest: str, route: Route, slot: int) -> Route:
        if kind == "TRYAGAIN":
            return route
        host, _, port = rest.partition(" ")[2].rpartition(":")
        address = Address(host or route[0].address.host, int(port))
        if kind == "MOVED":
            self._cluster.moved(slot, address)
        return self._cluster.primary(address), kind == "ASK"


def _store(route: Route) -> RedisStore:
    primary, arriving = route
    return primary.arriving if arriving else primary.store


def _asked(ask: Callable[[Route, list[int]], Sequence[Any]], route: Route, places: list[int]) -> Sequence[Any]:
    try:
        return ask(route, places)
    except StoreError as error:  # the round trip failed
        return [error] * len(places)


def _trouble(primary: Primary, slots: list[Primary | None]) -> StoreError | None:
    trouble = primary.store.trouble(_client_of(primary, slots))
    return None if isinstance(trouble, Redirected) else trouble


def _client_of(primary: Primary, slots: list[Primary | None]) -> bytes:
    """Return a client without counters in one of the primary's slots."""
    return health_key(lambda number: slots[number] is primary)


def _together(calls: list[Callable[[], Any]]) -> list[Any]:
    """Run the calls concurrently and return their results. The first runs in this greenlet, so one call starts none."""
    others = [gevent.spawn(call) for call in calls[1:]]
    return [*(call() for call in calls[:1]), *(other.get() for other in others)]
