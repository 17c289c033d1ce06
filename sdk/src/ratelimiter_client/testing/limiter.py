"""Clients of a fake service. Their arguments, fail modes and errors are real."""

from __future__ import annotations

from typing import Any, Callable, Mapping

from ratelimiter_client.aio import AsyncRateLimiter
from ratelimiter_client.arguments import FailMode, limit_name, refuse_unless
from ratelimiter_client.client import RateLimiter
from ratelimiter_client.decision import Decision, Groups, Name
from ratelimiter_client.http.transport import Answer
from ratelimiter_client.testing.service import DEFAULT, START, Call, FakeService, Limit
from ratelimiter_client.undecided import OnUndecided
from ratelimiter_client.waiting import admitted, pause_after, seconds

URL = "http://fake.invalid"


class _Connections:
    """Replaces the connections to a service."""

    def __init__(self, service: FakeService, timeout: float) -> None:
        self._service, self._timeout = service, timeout

    def exchange(self, request: bytes, *_: Any, **__: Any) -> Answer:
        return self._service.answer(request, self._timeout)

    def close(self) -> None:
        pass


class _AsyncConnections(_Connections):
    @property
    def of_loop(self) -> _AsyncConnections:
        return self

    async def exchange(self, request: bytes, *_: Any, **__: Any) -> Answer:  # type: ignore[override]
        return self._service.answer(request, self._timeout)


class Controls:
    """The common part of the fake limiters: a fake service, and its controls for tests."""

    service: FakeService
    timeout: float
    _service: Any
    _connections: Any

    def __init__(
        self,
        limits: Mapping[str, Limit] | None = None,
        *,
        default: Limit | None = DEFAULT,
        clock: Callable[[], float] | None = None,
        timeout: float = 0.05,
        fail_mode: FailMode = "open",
        retry: bool = True,
        on_undecided: OnUndecided = None,
    ) -> None:
        refuse_unless(clock is None or callable(clock), "clock", clock, "a function")
        super().__init__(URL, None, timeout, fail_mode, retry=retry, on_undecided=on_undecided)  # type: ignore[call-arg]
        self.service = FakeService(checked(limits, default), default, clock or _standing)
        self._service.connect_by(lambda: self._connections(self.service, self.timeout))

    @property
    def calls(self) -> list[Call]:
        """The calls of the service in order, each a Call: `client_id`, `limit_key`, `cost`, `allowed`, `groups`."""
        return self.service.calls

    @property
    def now(self) -> float:
        """Unix seconds of the fake's clock, which stands still unless the test moves it."""
        return self.service.now

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        refuse_unless(isinstance(seconds, (int, float)) and seconds >= 0, "seconds", seconds, "0 or more", ValueError)
        self.service.passed += seconds

    def deny(self, limit_key: str, retry_after_ms: int | None = 60_000) -> None:
        """Deny every check of this key from now on; None: waiting never helps."""
        self.service.denied[limit_name(limit_key)] = retry_after_ms

    def down(self, status: int | None = None) -> None:
        """From now on, do not answer, or answer everything with this status: the client's fail mode decides."""
        self.service.failure = ConnectionRefusedError("the test took the service down") if status is None else status

    def degrade(self) -> None:
        """From now on, act as a service without its Redis and with fail mode "open": allow everything, count
        nothing.
        """
        self.service.degraded = True

    def slow(self, seconds: float) -> None:
        """Delay each answer by the fake's clock from now on; at the client's `timeout` or later it is too late."""
        self.service.seconds = seconds

    def recover(self) -> None:
        """End `deny`, `down`, `degrade` and `slow`."""
        service = self.service
        service.denied.clear()
        service.failure, service.degraded, service.seconds = None, False, 0.0
        self._service.process.breaker.succeeded()

    def reset(self) -> None:
        """Recover, and forget all calls and counters. The clock stays."""
        self.recover()
        self.service.forget()


class FakeLimiter(Controls, RateLimiter):
    """A RateLimiter that decides by `limits`, such as `{"login": (5, 60)}`: 5 units in 60 seconds for each client id.

    Each limit is a fixed window that begins with its first charged check. `default` is the limit of all other keys;
    with None a check of such a key raises LookupError. `clock` gives Unix seconds; without it only `advance` moves
    time. The other arguments are those of RateLimiter.
    """

    _connections = _Connections

    def wait(
        self, client_id: Name, limit_key: Name = "global", cost: int = 1, *, at_most: float, groups: Groups = ()
    ) -> Decision:
        """As RateLimiter.wait, by the fake's clock: nothing sleeps."""

        def check() -> Decision:
            return self.check(client_id, limit_key, cost, groups=groups)

        return admitted(check, at_most, clock=lambda: self.now, sleep=self.advance)


class AsyncFakeLimiter(Controls, AsyncRateLimiter):
    """FakeLimiter for asyncio."""

    _connections = _AsyncConnections

    async def wait(
        self, client_id: Name, limit_key: Name = "global", cost: int = 1, *, at_most: float, groups: Groups = ()
    ) -> Decision:
        """As RateLimiter.wait, by the fake's clock: nothing sleeps."""
        give_up = self.now + seconds(at_most)
        while True:
            decision = await self.check(client_id, limit_key, cost, groups=groups)
            pause = pause_after(decision, give_up - self.now)
            if pause is None:
                return decision
            self.advance(pause)


def _standing() -> float:
    return START


def checked(limits: Mapping[str, Limit] | None, default: Limit | None) -> Mapping[str, Limit]:
    """The limits. Raises ValueError for an invalid one."""
    refuse_unless(limits is None or isinstance(limits, Mapping), "limits", limits, "{limit_key: (units, seconds)}")
    given = {limit_name(key): limit for key, limit in (limits or {}).items()}
    for key, limit in [*given.items(), ("default", DEFAULT if default is None else default)]:
        is_pair = isinstance(limit, (tuple, list)) and len(limit) == 2
        if not is_pair or not all(type(number) is int and number >= low for number, low in zip(limit, (0, 1))):
            raise ValueError(f"the limit of {key!r} is {limit!r}, allowed is (units, seconds)")
    return given
