"""Every metric of the service, declared once. Label values come from rules and code, never from callers.

Each worker counts for itself, and a scrape adds up (exposition.py). A gauge's `multiprocess_mode` says how.
"""

import time
from bisect import bisect_left

from prometheus_client import Counter, Gauge, Histogram

from app.observability import metric_files  # noqa: F401 - before the first metric: it says how values are kept
from app.observability.rule_counts import RuleCounts


class CountingHistogram(Histogram):
    """A histogram that records many equal observations at the price of one: `observe` costs more than a check may."""

    def observe_many(self, amount: float, times: int) -> None:
        """Record `amount` this many times, as calls of `observe` would. Without labels."""
        self._sum.inc(amount * times)
        self._buckets[bisect_left(self._upper_bounds, amount)].inc(times)


class NodeGauge(Gauge):
    """A gauge with one value per node: the last that any worker set, by the clock that its processes share."""

    def set(self, value: float) -> None:
        self._value.set(float(value), timestamp=time.monotonic())


# Names and helps of RULE_COUNTS' columns, in their order.
RULE_COUNTS = RuleCounts()
BY_RULE = (
    ("ratelimiter_allowed_total", "Checks allowed, by the rule's client and endpoint"),
    ("ratelimiter_blocked_total", "Checks denied, by the rule's client and endpoint"),
    ("ratelimiter_lease_permits_granted_total", "Permits granted by leases, likewise"),
    ("ratelimiter_lease_permits_returned_total", "Permits credited back of them, likewise"),
)
# The same for shadow rules: the first two columns are what each would have decided.
SHADOW_RULE = (
    "ratelimiter_shadow_rule_checks_total",
    "Checks that a shadow rule would have allowed or denied, by its client and endpoint",
)
WOULD = ("allow", "deny")
CHECK_DURATION = CountingHistogram(
    "ratelimiter_check_duration_seconds",
    "Time to answer a check or a batch of checks, body read to reply built",
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)
REDIS_ERRORS = Counter("ratelimiter_redis_errors_total", "Errors of the Redis client", ["operation"])
BACKGROUND_ERRORS = Counter(
    "ratelimiter_background_errors_total",
    "Failed steps of a worker's background tasks; each task goes on",
    ["task"],
)
DEGRADED = Counter("ratelimiter_degraded_total", "Checks Redis did not decide, by what answered", ["mode"])
SHADOW_BLOCKED = Counter("ratelimiter_shadow_blocked_total", "Checks a shadow rule would have denied")
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
# Labels of the reasons why a node is unhealthy, in the order of `/health`. `fallback` is not among them.
DEGRADED_LABELS = (
    "redis",
    "redis_permission",
    "redis_cluster_member",
    "redis_evicts",
    "redis_full",
    "breaker",
    "database",
    "rules",
    "settings",
    "fallback",
    "clock",
)
DEGRADED_REASONS = NodeGauge(
    "ratelimiter_degraded_reasons",
    "1 for each cause why the node is not healthy, as /health has them in words",
    ["reason"],
    multiprocess_mode="mostrecent",
)
REDIS_MEMORY_USED = NodeGauge(
    "ratelimiter_redis_memory_used_ratio",
    "Memory that Redis uses, of its maxmemory, in a cluster of the fullest primary; 0 where there is no bound",
    multiprocess_mode="mostrecent",
)
RULES_VERSION = Gauge(
    "ratelimiter_rules_version", "Version of the rules the slowest worker decides by", multiprocess_mode="livemin"
)
RULES_AGE = Gauge(
    "ratelimiter_rules_age_seconds", "Seconds since the rules were last confirmed current", multiprocess_mode="livemax"
)
RULES_NOTIFIED = Gauge(
    "ratelimiter_rules_notified",
    "1 while every worker hears of changed rules at once, 0 where one finds them by polling",
    multiprocess_mode="livemin",
)

# Created at zero: an alert on a series that does not exist yet would stay silent.
REDIS_ERRORS.labels("check")
for mode in ("open", "closed", "local"):
    DEGRADED.labels(mode)
for reason in DEGRADED_LABELS:
    DEGRADED_REASONS.labels(reason)
