"""Checks decided in the process, by permits that the service granted ahead."""

from __future__ import annotations

import os
import time
import weakref
from typing import Any, Callable

from ratelimiter_client.arguments import refuse_unless
from ratelimiter_client.client import RateLimiter
from ratelimiter_client.decision import Decision, Groups, Lease, Name
from ratelimiter_client.health import Health
from ratelimiter_client.http.questions import is_integer
from ratelimiter_client.leasing.renewals import Renewals
from ratelimiter_client.waiting import admitted

LONGEST_NAME, LARGEST_NAME = 256, 2**63  # characters, and a number; the service decides beyond these
ONE = 1  # compared by `is`: True and 1.0 equal it, and the service refuses them
BOUNDS: dict[str, tuple[float, int]] = {"size": (1, 100_000), "ttl": (0.01, 3_600), "keys": (1, 100_000)}


class LeasedLimiter:
    """Decides like `client`, but frequent checks by leases of up to `size` permits of a key for `ttl` seconds.

    A key is a client id, a limit key and groups; leases of `keys` of them are held at a time. One for the whole
    application: threads, greenlets and forks may share it. `clock` gives monotonic seconds. Raises ValueError for a
    wrong argument.
    """

    def __init__(
        self,
        client: RateLimiter,
        size: int = 100,
        ttl: float = 1.0,
        *,
        keys: int = 1_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        refuse_unless(callable(getattr(client, "lease", None)), "client", client, "a RateLimiter")
        refuse_unless(callable(clock), "clock", clock, "a function")
        for name, value in (("size", size), ("ttl", ttl), ("keys", keys)):
            least, most = BOUNDS[name]
            if not isinstance(value, (int, float) if name == "ttl" else int) or not least <= value <= most:
                raise ValueError(f"{name} is {value!r}, allowed is {least} to {most}")
        self._client, self._size, self._ttl, self._keys, self._clock = client, size, ttl, keys, clock
        self._renewals: dict[int, Renewals] = {}  # by pid: this process's, and for a moment after a fork its parent's
        self._begin(os.getpid())
        _limiters.add(self)

    def check(
        self,
        client_id: Name,
        limit_key: Name = "global",
        cost: int = 1,
        *,
        groups: Groups = (),
        request_id: Name | None = None,
        correlation_id: str | None = None,
        traceparent: str | None = None,
    ) -> Decision:
        """As `RateLimiter.check`. A check by a permit gets the decision of the lease: `remaining` is as of the grant.

        With a `request_id` the service is always asked: it alone remembers request ids.
        """
        if request_id is None:
            key: Any = (client_id, limit_key, _hashable(groups)) if groups else (client_id, limit_key)
            if cost is ONE and (type(client_id) is str or type(client_id) is int):
                try:
                    permits = self._in_use[key]
                    decision = permits.pop()
                    if decision is not None and self._clock() < permits.until:  # read after popping: it is not late
                        return decision
                except (KeyError, IndexError, TypeError):  # no lease, used up, or an argument that is no dict key
                    pass
            if self._may_lease(client_id, limit_key, cost, groups):
                decision = self._process().decide(key, cost)
                if decision is not None:
                    return decision
        return self._client.check(
            client_id,
            limit_key,
            cost,
            groups=groups,
            request_id=request_id,
            correlation_id=correlation_id,
            traceparent=traceparent,
        )

    def lease(self, client_id: Name, limit_key: Name, permits: int, ttl: float, *, groups: Groups = ()) -> Lease:
        """As `RateLimiter.lease`: one beside those held here."""
        return self._client.lease(client_id, limit_key, permits, ttl, groups=groups)

    def return_lease(self, lease_id: str, unused: int) -> int:
        """As `RateLimiter.return_lease`."""
        return self._client.return_lease(lease_id, unused)

    def health(self) -> Health:
        """As `RateLimiter.health`; decisions by permits are not counted as calls."""
        return self._client.health()

    def peek(self, client_id: Name, limit_key: Name = "global", *, groups: Groups = ()) -> Decision:
        """As `RateLimiter.peek`: the units that the service has left, without the permits held here."""
        return self._client.peek(client_id, limit_key, groups=groups)

    def wait(
        self, client_id: Name, limit_key: Name = "global", cost: int = 1, *, at_most: float, groups: Groups = ()
    ) -> Decision:
        """As `RateLimiter.wait`."""
        return admitted(lambda: self.check(client_id, limit_key, cost, groups=groups), at_most)

    def close(self) -> None:
        """Return unused permits, which takes about a second at most. From then on the service decides everything."""
        self._process().background.close()

    def __enter__(self) -> LeasedLimiter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        for renewals in getattr(self, "_renewals", {}).values():
            renewals.background.stop()

    def _may_lease(self, client_id: object, limit_key: object, cost: object, groups: object) -> bool:
        """False for peeks, and for values that the service refuses. Only a text limit key and groups: as a dict key
        True would equal 1.
        """
        named = _is_text(client_id) or is_integer(client_id, 0, LARGEST_NAME)
        grouped = not groups or (isinstance(groups, (list, tuple)) and all(map(_is_text, groups)))
        return named and _is_text(limit_key) and grouped and is_integer(cost, 1, self._size)

    def _process(self) -> Renewals:
        """The renewals of this process, found by its pid: not every server that forks tells Python."""
        pid = os.getpid()
        return self._renewals.get(pid) or self._begin(pid)

    def _begin(self, pid: int) -> Renewals:
        """Start anew after a fork: the permits are the parent's, and its thread does not run here."""
        for other in [known for known in list(self._renewals) if known != pid]:
            inherited = self._renewals.pop(other, None)
            if inherited is not None:
                inherited.background.abandon()
        renewals = Renewals(self._client, self._size, self._ttl, self._keys, self._clock)
        renewals = self._renewals.setdefault(pid, renewals)
        self._in_use = renewals.in_use
        return renewals


def _hashable(groups: Any) -> Any:
    return tuple(groups) if type(groups) is list else groups


def _is_text(name: object) -> bool:
    return isinstance(name, str) and len(name) <= LONGEST_NAME


_limiters: weakref.WeakSet[LeasedLimiter] = weakref.WeakSet()


def _after_fork() -> None:
    for limiter in list(_limiters):
        limiter._process()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)
