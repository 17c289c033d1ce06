"""Whether this node keeps its promises, and if not, why: the only place that collects the causes.

`/health` shows them as sentences, `ratelimiter_degraded_reasons` by label. This module logs only causes that no other
module logs.
"""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Callable, Mapping
from typing import Protocol

import gevent

from app.limiter.breaker.guarded import guarded
from app.limiter.breaker.per_primary import AnyBreaker
from app.limiter.errors import StoreError, StoreUnavailable
from app.limiter.redis.inspection import CANNOT, Findings, RedisInspection
from app.limiter.redis.preflight import MissingPermission
from app.limiter.store import ProbedStore
from app.nodes.comparison import REDIS, Node, SharedClock, difference
from app.nodes.registry import Nodes
from app.observability.background import forever
from app.observability.logs import first_line
from app.observability.metrics import DEGRADED_LABELS, DEGRADED_REASONS, REDIS_MEMORY_USED
from app.rules.sync.reloader import Freshness

LOOK_SECONDS = 30.0  # plus or minus 20 % jitter
LIVE_SECONDS = 1.0  # calls of /health make a worker inspect Redis no more often
LEAVE_SECONDS = 2.0
MAX_SENTENCE = 500  # characters of a sentence: some quote Redis
SHARED = "another deployment uses this Redis too: keys are separate, memory and processor time are shared"
LOGGED_HERE = (
    "redis_permission",
    "redis_cluster_member",
    "redis_evicts",
    "redis_full",
    "settings",
    "fallback",
    "clock",
)
# These settings have no effect while Redis answers: if they differ, the node stays healthy.
FALLBACK = ("FAIL_MODE", "NODES")

log = logging.getLogger(__name__)


class Rules(Protocol):
    def freshness(self) -> Freshness: ...


class Condition:
    """The condition as one of `workers` workers sees it.

    `settings`: those that must be equal on all nodes. `clock` is monotonic seconds.
    """

    def __init__(
        self,
        *,
        store: ProbedStore,
        inspection: RedisInspection,
        breaker: AnyBreaker,
        rules: Rules,
        nodes: Nodes,
        settings: Mapping[str, str],
        shared_clock: SharedClock,
        workers: int,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._inspection = inspection
        self._breaker = breaker
        self._rules = rules
        self._nodes = nodes
        self._settings = settings
        self._shared_clock = shared_clock
        self._workers = workers
        self._clock = clock
        self._speaks = False  # for the node, in the log and to other nodes
        self._trouble: StoreError | None = None
        self._found = Findings()
        self._looked_at: float | None = None
        self._others: list[Node] = []
        self._logged: dict[str, str] = {}
        self._incomparable = ""

    def start(self, *, place: int) -> None:
        """Look now, and twice a minute. The worker at `place` 0 speaks for the node: in the log and to other nodes."""
        self._speaks = (
            place % self._workers == 0
        )  # after a reload, new workers have the next places; the first of them speaks
        gevent.spawn(forever, "looking at Redis and at other nodes", self._watch)

    def stop(self) -> None:
        """Tell other nodes that they need not compare with this one any more."""
        if self._speaks:
            with gevent.Timeout(LEAVE_SECONDS, False), contextlib.suppress(Exception):  # the entry expires anyway
                self._nodes.leave()

    @property
    def redis_available(self) -> bool:
        """Whether Redis decides all checks, as far as is known."""
        return self._trouble is None and not self._found.unable

    def ask(self) -> None:
        """Ask Redis for its current state."""
        self._trouble = self._store.trouble()
        if _silent(self._trouble):  # a silent Redis would not answer further questions
            self._found = Findings(memory_used=self._found.memory_used)
        elif self._looked_at is None or self._clock() - self._looked_at >= LIVE_SECONDS:
            self._looked_at = self._clock()
            self._found = self._inspection.look()

    @property
    def healthy(self) -> bool:
        """Whether the node decides as it should, as far as is known."""
        return not self.reasons().keys() - {"fallback"}

    def reasons(self) -> dict[str, str]:
        """The known causes by label, in the order of DEGRADED_LABELS. A healthy node has none, or only `fallback`."""
        causes = self._found.causes | self._of_others()
        if self._trouble is not None and not self._found.unable:
            causes["redis"] = CANNOT.format(self._trouble)
        breaker = self._breaker.status().state
        if breaker != "closed":
            causes["breaker"] = (
                f"the circuit breaker is {breaker.replace('_', ' ')}: Redis is not asked about most checks"
            )
        rules = self._rules.freshness()
        if not rules.database_available:
            causes["database"] = "PostgreSQL does not answer: the last good rules decide, and none can be changed"
        if rules.version is None:
            causes["rules"] = "no rules are known yet, so checks are answered with 503"
        elif rules.rejected:
            causes["rules"] = "PostgreSQL holds rules that cannot be used: the last good ones decide"
        return {label: causes[label][:MAX_SENTENCE] for label in DEGRADED_LABELS if label in causes}

    def show(self) -> None:
        """Set the metrics to the known state."""
        reasons = self.reasons()
        for label in DEGRADED_LABELS:
            DEGRADED_REASONS.labels(label).set(label in reasons)
        REDIS_MEMORY_USED.set(self._found.memory_used)

    def _watch(self) -> None:
        if self._breaker.probe_due:  # without callers, nothing else would close it
            guarded(self._breaker, self._store.check, self._store.probes())
        if not self._breaker.state_number or self._breaker.probe_due:
            self.ask()
        else:  # Redis is not asked while the breaker is open, and another server may answer later.
            self._found.mark = None
        self._compare()
        self.show()
        if self._speaks:
            self._log_changes()
        gevent.sleep(LOOK_SECONDS * random.uniform(0.8, 1.2))

    def _compare(self) -> None:
        """Compare settings and clock with the other nodes."""
        try:
            self._others = self._nodes.look(self._decided_by() if self._speaks else None)
            self._incomparable = ""
        except Exception as error:  # the database does not answer, or is not migrated yet
            why = first_line(error)
            if self._speaks and not self._incomparable:
                log.warning("settings and clocks cannot be compared with other nodes: %s", why)
            self._incomparable = why

    def _decided_by(self) -> Mapping[str, str]:
        mark = self._found.mark
        return {**self._settings, REDIS: mark[1]} if mark else self._settings

    def _of_others(self) -> dict[str, str]:
        made_at = self._found.mark[0] if self._found.mark else 0.0
        mine = self._decided_by()
        always = {name: value for name, value in mine.items() if name not in FALLBACK}
        found = {
            "settings": difference(always, made_at, self._others),
            "fallback": difference({name: mine[name] for name in FALLBACK if name in mine}, made_at, self._others),
            "clock": self._shared_clock.complaint,
        }
        return {label: said for label, said in found.items() if said}

    def _log_changes(self) -> None:
        """One line per change."""
        reasons = {label: said for label, said in self.reasons().items() if label in LOGGED_HERE}
        if self._found.shared:
            reasons["shared"] = SHARED
        for label in reasons.keys() - self._logged.keys():
            log.warning("%s", reasons[label])
        for label in self._logged.keys() - reasons.keys() - {"shared"}:
            log.info("no longer: %s", self._logged[label])
        self._logged = {label: said for label, said in self._logged.items() if label == "shared"} | reasons


def _silent(trouble: StoreError | None) -> bool:
    """Whether Redis is out of reach, or too slow."""
    return isinstance(trouble, StoreUnavailable) and not isinstance(trouble.failure, MissingPermission)
