"""Decides checks while Redis cannot, by the rule's fail_mode."""

from __future__ import annotations

import math
from collections.abc import Callable

from app.limiter.breaker.per_primary import AnyBreaker
from app.limiter.compiled_rule import Charge, CompiledRule
from app.limiter.decision import Outcome
from app.limiter.denial_cache import DenialCache
from app.limiter.errors import StoreBusy, StoreError, Unavailable
from app.limiter.fallback.fallback_log import FallbackLog
from app.limiter.fallback.local_store import LocalStore
from app.limiter.joint.joint_rule import JointRule
from app.observability.metrics import DEGRADED
from app.rules.rule import FAIL_MODES, Rule

# The meaning of each fail_mode for callers while Redis cannot decide.
MEANING = {
    "open": "checks are admitted without a limit, but for clients that were denied just before",
    "closed": "checks are refused with 503",
    "local": "each worker enforces its share of every limit",
}
STRICTNESS = ("open", "local", "closed")
RETRY_SECONDS = 1  # Retry-After of a 503 after a failed round trip while the breaker is still closed


class Fallback:
    """`fail_mode` is the default for rules without one.

    `clock` is Unix time in seconds, since Redis's is out of reach.
    """

    def __init__(
        self,
        *,
        local: LocalStore,
        breaker: AnyBreaker,
        denials: DenialCache,
        fail_mode: str,
        fallback_log: FallbackLog,
        clock: Callable[[], float],
    ) -> None:
        self._local = local
        self._breaker = breaker
        self._denials = denials
        self._fail_mode = fail_mode
        self._fallback_log = fallback_log
        self._clock = clock
        self._degraded = {mode: DEGRADED.labels(mode) for mode in FAIL_MODES}

    def decide(self, charge: Charge, why: object) -> tuple[CompiledRule, Outcome] | Unavailable:
        """Decide by the strictest fail_mode. open: admit; local: decide on this worker's share; closed: Unavailable.

        In every mode a client that Redis denied stays denied until it can have recovered. An overloaded worker (`why`
        is StoreBusy) refuses: this says nothing about Redis and must admit no client. The returned rule is the one
        whose limits the outcome refers to.
        """
        if isinstance(why, StoreBusy):
            return Unavailable(RETRY_SECONDS)
        mode = self.mode(charge.compiled)
        self._degraded[mode].inc()
        self._fallback_log.fell_back(mode, why)
        if mode == "closed":
            return self.unavailable()
        denied = self._denials.still(charge)
        if denied is not None:
            return charge.compiled, denied
        now_us = int(self._clock() * 1_000_000)
        if mode == "local":
            return self._local.check(charge, now_us)
        return charge.compiled, _as_if_untouched(charge.compiled.rule, now_us)

    def mode(self, compiled: CompiledRule) -> str:
        """Return the strictest fail_mode of the rules that decide together."""
        parts = compiled.parts if isinstance(compiled, JointRule) else (compiled,)
        return max((part.rule.fail_mode or self._fail_mode for part in parts), key=STRICTNESS.index)

    def refused_lease(self, why: StoreError) -> Unavailable:
        """Return the refusal of a lease: no fallback grants leases. `why` is the error."""
        if not isinstance(why, StoreBusy):
            self._fallback_log.refused_lease(why)
        return self.unavailable()

    def unavailable(self) -> Unavailable:
        """Return the refusal that holds until the breaker allows the next call to Redis."""
        until_probe = math.ceil(self._breaker.status().time_until_retry_seconds)
        return Unavailable(retry_after_seconds=max(RETRY_SECONDS, until_probe))


def _as_if_untouched(rule: Rule, now_us: int) -> Outcome:
    """Return an admission with the numbers of the rule's tightest limit, as if unused."""
    binding = min(range(len(rule.limits)), key=lambda i: rule.limits[i].capacity)
    return Outcome(
        allowed=True,
        binding=binding,
        remaining=rule.limits[binding].capacity,
        retry_after_us=0,
        reset_after_us=0,
        now_us=now_us,
    )
