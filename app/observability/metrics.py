"""Every metric of the service, declared once. Label values come from rules and code, never from callers.

In multiprocess mode (PROMETHEUS_MULTIPROC_DIR set before this is imported) each worker writes its own files and a
scrape adds them up; the `multiprocess_mode` of a gauge says how.
"""

import time
from bisect import bisect_left
from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram


class CountingHistogram(Histogram):
    """A histogram that takes equal observations at the price of one: `observe` costs more than a check may."""

    def observe_many(self, amount: float, times: int) -> None:
        """As `times` calls of `observe(amount)`. Without labels."""
        self._sum.inc(amount * times)
        self._buckets[bisect_left(self._upper_bounds, amount)].inc(times)


class HotCounter(Counter):
    """A counter that every check raises: `inc` also looks at what it is told, which costs a quarter more."""

    def raiser(self) -> Callable[[float], None]:
        """What raises this child by a positive number."""
        inc: Callable[[float], None] = self._value.inc
        return inc


class NodeGauge(Gauge):
    """One value for the whole node: the last that any worker set, by the clock that its processes share."""

    def set(self, value: float) -> None:
        self._value.set(float(value), timestamp=time.monotonic())


ALLOWED = HotCounter(
    "ratelimiter_allowed_total", "Checks allowed, by the rule's client and endpoint", ["client_id", "endpoint"]
)
BLOCKED = HotCounter(
    "ratelimiter_blocked_total", "Checks denied, by the rule's client and endpoint", ["client_id", "endpoint"]
)
CHECK_DURATION = CountingHistogram(
    "ratelimiter_check_duration_seconds",
    "Time to answer a check or a batch of checks, body read to reply built",
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)
REDIS_ERRORS = Counter("ratelimiter_redis_errors_total", "Errors of the Redis client", ["operation"])
DEGRADED = Counter("ratelimiter_degraded_total", "Checks Redis did not decide, by what answered", ["mode"])
SHADOW_BLOCKED = Counter("ratelimiter_shadow_blocked_total", "Checks a shadow rule would have denied")
LEASE_GRANTED = Counter(
    "ratelimiter_lease_permits_granted_total", "Permits granted by leases, likewise", ["client_id", "endpoint"]
)
LEASE_RETURNED = Counter(
    "ratelimiter_lease_permits_returned_total", "Permits credited back of them, likewise", ["client_id", "endpoint"]
)
ACTIVE_CLIENTS = NodeGauge(
    "ratelimiter_active_clients",
    "Distinct clients checked on this node in the last minute, an estimate",
    multiprocess_mode="mostrecent",
)
BREAKER_STATE = NodeGauge(
    "ratelimiter_circuit_breaker_state",
    "The node's breaker: 0 closed, 1 half open, 2 open",
    multiprocess_mode="mostrecent",
)
RULES_VERSION = Gauge(
    "ratelimiter_rules_version", "Version of the rules the slowest worker decides by", multiprocess_mode="livemin"
)
RULES_AGE = Gauge(
    "ratelimiter_rules_age_seconds", "Seconds since the rules were last confirmed current", multiprocess_mode="livemax"
)

# Present from the start, at zero: an alert on a series that does not exist yet would stay silent.
REDIS_ERRORS.labels("check")
ALLOWED.labels("default", "*")
BLOCKED.labels("default", "*")
LEASE_GRANTED.labels("default", "*")
LEASE_RETURNED.labels("default", "*")
for mode in ("open", "closed", "local"):
    DEGRADED.labels(mode)
