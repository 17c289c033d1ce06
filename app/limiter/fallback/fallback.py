"""The fallback: what decides a check while Redis does not, by the rule's fail_mode."""

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
from app.observability.metrics import DEGRADED
from app.rules.rule import FAIL_MODES, Rule

# What each fail_mode means to callers while Redis cannot decide.
MEANING = {
    "open": "checks are admitted without a limit, but for clients that were denied just before",
    "closed": "checks are refused with 503",
    "local": "each worker enforces its share of every limit",
}
RETRY_SECONDS = 1  # what a 503 advises after a failed trip while the breaker is still closed


class Fallback:
    """`fail_mode` is for rules that name none; `clock` is Unix time in seconds, Redis's being out of reach."""

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
        """open: admitted; local: decided on this worker's share; closed: Unavailable. `why`: Redis did not decide.

        In every mode a client that Redis denied and that cannot have recovered stays denied, and a worker that has too
        much to do refuses: that says nothing of Redis, and must admit nobody. With the outcome comes the plan whose
        limits its numbers are about.
        """
        if isinstance(why, StoreBusy):
            return Unavailable(RETRY_SECONDS)
        mode = charge.compiled.rule.fail_mode or self._fail_mode
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

    def refused_lease(self, why: StoreError) -> Unavailable:
        """Nothing grants leases in Redis's stead. `why`: it did not."""
        if not isinstance(why, StoreBusy):
            self._fallback_log.refused_lease(why)
        return self.unavailable()

    def unavailable(self) -> Unavailable:
        """Nothing decides until the breaker lets Redis be asked again."""
        until_probe = math.ceil(self._breaker.status().time_until_retry_seconds)
        return Unavailable(retry_after_seconds=max(RETRY_SECONDS, until_probe))


def _as_if_untouched(rule: Rule, now_us: int) -> Outcome:
    """Admitted, with the numbers of the rule's tightest limit."""
    binding = min(range(len(rule.limits)), key=lambda i: rule.limits[i].capacity)
    return Outcome(
        allowed=True,
        binding=binding,
        remaining=rule.limits[binding].capacity,
        retry_after_us=0,
        reset_after_us=0,
        now_us=now_us,
    )
