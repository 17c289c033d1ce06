"""Leases: permits of a counter, charged at once and granted to a holder, which then decides locally for a time.

Permits that are not returned count as used. docs/leases.md states the guarantees and the cost in fairness.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from secrets import token_urlsafe
from typing import NamedTuple

from msgspec.structs import replace

from app.limiter.compiled_rule import Charge, ChargeRecord
from app.limiter.compiled_rules import CompiledRules
from app.limiter.decision import Decision, LeaseOutcome, Question, decided, outright
from app.limiter.errors import StoreError, StoreFault
from app.limiter.fallback.fallback import Fallback
from app.limiter.keys import HASH_LENGTH, lease_name, public_part
from app.limiter.limiter import Limiter, with_shadow
from app.limiter.redis.script_calls import NONSENSE
from app.limiter.redis.scripts import lease_release_script, lease_script
from app.limiter.store import DenialCounter
from app.observability.active_clients import ActiveClients
from app.rules.errors import NotFound

NONCE_BYTES = 12  # 16 characters, so that a lease id cannot be guessed
LEASE_ID = re.compile(
    rf"(0|[1-9][0-9]{{0,18}})\.([\w-]{{{HASH_LENGTH}}})\.([\w-]{{16}})", re.ASCII
)  # rule, client, nonce
GONE = "the tenant has no such lease, or it has expired: its permits count as used"


class Grant(NamedTuple):
    """`decision`: as for a check of the granted cost, or of cost 1 if nothing was granted.

    `expires_at`: Unix seconds.
    """

    decision: Decision
    granted: int
    lease_id: str | None
    expires_at: float | None


class Leases:
    """Belongs to one worker. Only Redis grants leases; no fail_mode does. `clock` is Unix time in seconds."""

    def __init__(
        self,
        *,
        limiter: Limiter,
        fallback: Fallback,
        active_clients: ActiveClients,
        denied_clients: DenialCounter,
        clock: Callable[[], float],
    ) -> None:
        self._limiter = limiter
        self._fallback = fallback
        self._active_clients = active_clients
        self._denied_clients = denied_clients
        self._clock = clock

    def acquire(self, question: Question, ttl_ms: int) -> Grant:
        """Grant as many permits as the question costs, or as many as are left. Raises Unavailable and NotReady."""
        compiled_rules, nonce = self._limiter.current_rules(), token_urlsafe(NONCE_BYTES)
        charge = compiled_rules.charge(*question)
        self._active_clients.add([charge.client])
        lease = ChargeRecord(lease_name(charge.compiled.counter_names, nonce), b"%d" % (ttl_ms * 1000), lease_script())
        decision, granted = self._decided(charge, self._outcome_of(replace(charge, record=lease)))
        if not granted:
            self._denied_clients.denied(question[0], question[1].client_id, charge.compiled.rule)
            return Grant(decision, 0, None, None)
        charge.compiled.counts.granted(granted)
        lease_id = f"{charge.compiled.rule.id}.{public_part(charge.client)}.{nonce}"
        expires_at = (decision.outcome.now_us + ttl_ms * 1000) / 1_000_000
        return Grant(
            self._beside_shadow(compiled_rules, question, charge, granted, decision), granted, lease_id, expires_at
        )

    def release(self, tenant_id: int, lease_id: str, unused: int) -> int:
        """Refund unused permits; return how many in total. A repeated call gives the same number.

        Raises NotFound if the lease is unknown to the tenant or has expired; Unavailable and NotReady.
        """
        compiled_rules, found = self._limiter.current_rules(), LEASE_ID.fullmatch(lease_id)
        rule = compiled_rules.book.rule(tenant_id, int(found[1])) if found else None
        if found is None or rule is None:
            raise NotFound(GONE)
        compiled = compiled_rules.compiled(rule)
        lease = ChargeRecord(lease_name(compiled.counter_names, found[3]), script=lease_release_script())
        outcome = self._outcome_of(Charge(compiled, compiled_rules.client_named(tenant_id, found[2]), unused, lease))
        if outcome is None:  # the rule counts nothing
            return 0
        if outcome.permits < 0:
            raise NotFound(GONE)
        compiled.counts.returned(outcome.remaining)
        return outcome.permits

    def _outcome_of(self, charge: Charge) -> LeaseOutcome | None:
        """Return None if the rule counts nothing."""
        [outcome] = self._limiter.outcomes([charge])
        if outcome is None or isinstance(outcome, LeaseOutcome):
            return outcome
        error = outcome if isinstance(outcome, StoreError) else StoreFault(NONSENSE)
        raise self._fallback.refused_lease(error) from error

    def _decided(self, charge: Charge, outcome: LeaseOutcome | None) -> tuple[Decision, int]:
        """Return the decision and the number of permits granted."""
        if outcome is not None:
            return decided(charge.compiled, outcome), outcome.permits
        decision = outright(charge.compiled, int(self._clock() * 1_000_000))
        return decision, charge.cost if decision.allowed else 0

    def _beside_shadow(
        self, compiled_rules: CompiledRules, question: Question, charge: Charge, granted: int, decision: Decision
    ) -> Decision:
        """Return the decision, combined with a shadow rule's answer to a check of as many units."""
        tenant_id, check = question
        shadow = compiled_rules.shadow_charge(tenant_id, replace(check, cost=granted), charge.client)
        if shadow is not None:
            [outcome] = self._limiter.outcomes([shadow])
            decision = with_shadow(shadow, outcome, decision)
        return decision
