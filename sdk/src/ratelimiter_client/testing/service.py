"""A fake service for tests: fixed windows in memory, by the test's clock."""

from __future__ import annotations

import json
import math
import threading
from socket import timeout as TimeIsUp
from typing import Any, Callable, Mapping, NamedTuple, Tuple
from urllib.parse import unquote

from ratelimiter_client.http.transport import Answer

Limit = Tuple[int, int]  # units, seconds

START = 1_800_000_000.0  # Unix seconds
DEFAULT: Limit = (100, 60)  # as the service's own


class Call(NamedTuple):
    """A check, a peek (`cost` 0) or a lease as the service received it. A check while the service is down is not a
    Call.
    """

    client_id: str
    limit_key: str
    cost: int
    allowed: bool
    groups: tuple[str, ...] = ()


class Window:
    """A counter. It begins with its first charged check, as the service's `fixed_window`."""

    def __init__(self) -> None:
        self.used: int = 0
        self.end: float = 0.0

    def left(self, limit: Limit, now: float) -> int:
        if now >= self.end:
            self.used = 0
        return max(0, limit[0] - self.used)

    def charge(self, cost: int, limit: Limit, now: float) -> None:
        """Call `left` first."""
        if self.used == 0:
            self.end = now + limit[1]
        self.used += cost


class FakeService:
    """Answers the client's requests. `limits`: units and seconds of each limit key; `default`: of all others.

    Raises LookupError for a key without a limit where `default` is None.
    """

    def __init__(self, limits: Mapping[str, Limit], default: Limit | None, clock: Callable[[], float]) -> None:
        self.calls: list[Call] = []
        self.clock = clock
        self.passed: float = 0.0  # seconds by which the test moved the clock
        self.denied: dict[str, int | None] = {}  # limit key -> retry_after_ms
        self.degraded = False
        self.seconds: float = 0.0  # of delay before an answer
        self.failure: Exception | int | None = None  # the exception to raise, or the status of every answer
        self._lock = threading.Lock()
        self._default = default
        self._rules: dict[str, int | str] = {key: number for number, key in enumerate(limits, 1)}
        self._limits = dict(limits)
        self.forget()

    def forget(self) -> None:
        """Forget all calls and counters."""
        self.calls.clear()
        self._windows: dict[tuple[str, str], Window] = {}
        self._remembered: dict[tuple[str, str], dict[str, Any]] = {}
        self._leases: dict[str, tuple[str, str, float, int]] = {}

    @property
    def now(self) -> float:
        return self.clock() + self.passed

    def answer(self, request: bytes, timeout: float) -> Answer:
        """The answer. Raises OSError if the service is down, or slower than `timeout` seconds; a late answer has
        charged.
        """
        with self._lock:
            return self._answer(request, timeout)

    def _answer(self, request: bytes, timeout: float) -> Answer:
        if isinstance(self.failure, Exception):
            raise self.failure
        head, _, body = request.partition(b"\r\n\r\n")
        path = head.split(b" ", 2)[1].decode()
        status, document = (self.failure, _problem(self.failure)) if self.failure else self._asked(path, body)
        self.passed += min(self.seconds, timeout)
        if self.seconds >= timeout:
            raise TimeIsUp("the time for the call is up")
        headers = _headers(document, self.now) if "allowed" in document else ()
        return Answer(status, headers, json.dumps(document).encode(), True)

    def _asked(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        fields = json.loads(body)
        if path == "/v1/check":
            return 200, self._decided([fields])[0]
        if path == "/v1/check/batch":
            return 200, {"results": self._results(**fields)}
        if path == "/v1/leases":
            return 200, self._lease(fields)
        lease = self._leases.pop(unquote(path.split("/")[3]), None)
        return (200, self._returned(lease, fields["unused"])) if lease else (404, _problem(404))

    def _results(
        self, checks: list[dict[str, Any]], together: bool = False, headers: bool = False
    ) -> list[dict[str, Any]]:
        results = self._decided(checks) if together else [self._decided([fields])[0] for fields in checks]
        return [{**one, "headers": dict(_headers(one, self.now))} for one in results] if headers else results

    def _decided(self, checks: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The decisions on checks of which all are charged, or none. A window is charged once, by the greatest cost."""
        known = [self._remembered.get(_named(fields)) for fields in checks]
        answers = [self._looked(fields) if known is None else known for fields, known in zip(checks, known)]
        if self.degraded or not all(decided["allowed"] for decided in answers):
            return answers
        fresh = [(fields, decided) for fields, decided, known in zip(checks, answers, known) if known is None]
        greatest: dict[tuple[str, str], int] = {}
        for fields, _ in fresh:
            place = (fields["client_id"], fields["limit_key"])
            greatest[place] = max(greatest.get(place, 0), fields["cost"])
        for place, cost in greatest.items():
            if cost:
                self._windows[place].charge(cost, self._limit(place[1]), self.now)
        for fields, decided in fresh:
            window = self._windows[fields["client_id"], fields["limit_key"]]
            decided["remaining"] = window.left(self._limit(fields["limit_key"]), self.now)
            decided["reset_at"] = max(self.now, window.end)
            if "request_id" in fields:
                self._remembered[_named(fields)] = decided
        return answers

    def _looked(self, fields: dict[str, Any]) -> dict[str, Any]:
        """The decision on a check, before anything is charged."""
        client_id, limit_key, cost = fields["client_id"], fields["limit_key"], fields["cost"]
        rate, seconds = limit = self._limit(limit_key)
        now, window = self.now, self._windows.setdefault((client_id, limit_key), Window())
        left = window.left(limit, now)
        shut = cost > 0 and limit_key in self.denied and not self.degraded
        allowed = self.degraded or (not shut and cost <= left)
        self.calls.append(Call(client_id, limit_key, cost, allowed, tuple(fields.get("groups", ()))))
        wait: int | None = 0 if allowed else max(1, round((window.end - now) * 1000))
        if not allowed and (shut or cost > rate):
            wait = self.denied[limit_key] if shut else None
        reason = "within_limit" if allowed else "cost_exceeds_limit" if cost > rate else "over_limit"
        return {
            "allowed": allowed,
            "remaining": rate if self.degraded else left,
            "retry_after_ms": wait,
            "limit": rate,
            "window": seconds,
            "reset_at": max(now, window.end),
            "algorithm": "fixed_window",
            "rule_id": self._rules.get(limit_key, "default"),
            "reason": "degraded" if self.degraded else reason,
            "degraded": self.degraded,
        }

    def _lease(self, fields: dict[str, Any]) -> dict[str, Any]:
        client_id, limit_key, permits = fields["client_id"], fields["limit_key"], fields["permits"]
        window = self._windows.setdefault((client_id, limit_key), Window())
        granted = min(permits, window.left(self._limit(limit_key), self.now))
        [decided] = self._decided([{**fields, "cost": granted or 1}])
        granted = granted if decided["allowed"] else 0
        lease_id = f"lease-{len(self.calls)}" if granted else None
        if lease_id:
            self._leases[lease_id] = (client_id, limit_key, window.end, granted)
        expires_at = self.now + fields["ttl_ms"] / 1000 if lease_id else None
        return {**decided, "granted": granted, "lease_id": lease_id, "expires_at": expires_at}

    def _returned(self, lease: tuple[str, str, float, int], unused: int) -> dict[str, Any]:
        client_id, limit_key, end, granted = lease
        window = self._windows[client_id, limit_key]
        credited = min(unused, granted) if window.end == end and self.now < end else 0
        window.used -= credited
        return {"returned": credited}

    def _limit(self, limit_key: str) -> Limit:
        limit = self._limits.get(limit_key, self._default)
        if limit is None:
            known = ", ".join(sorted(self._limits)) or "none"
            raise LookupError(f"limit_key is {limit_key!r}, which has no limit here; those that have one: {known}")
        return limit


def _named(fields: dict[str, Any]) -> tuple[str, str]:
    return fields["client_id"], fields.get("request_id", "")


def _problem(status: int) -> dict[str, Any]:
    return {"status": status, "detail": "as the test says"}


def _headers(decided: dict[str, Any], now: float) -> tuple[tuple[str, str], ...]:
    """The headers as the service sends them by default."""
    rule_id, wait_ms = decided["rule_id"], decided["retry_after_ms"]
    name = rule_id if rule_id == "default" else f"{rule_id}.1"
    headers = [
        ("RateLimit-Policy", f'"{name}";q={decided["limit"]};w={decided["window"]}'),
        ("RateLimit", f'"{name}";r={decided["remaining"]};t={math.ceil(decided["reset_at"] - now)}'),
    ]
    if not decided["allowed"] and wait_ms is not None:
        headers.append(("Retry-After", str(-(-wait_ms // 1000))))
    return tuple(headers)
