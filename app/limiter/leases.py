"""Leases: permits of a counter, charged at once and granted to a holder, which then decides locally for a time.

Permits that are not returned count as used. docs/leases.md states the guarantees and the cost in fairness.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from secrets import token_urlsafe
from typing import NamedTuple

from msgspec.structs import replace

from app.limiter.compiled_rule import Charge, ChargeRecord
from app.limiter.compiled_rules import CompiledRules
from app.limiter.decision import Decision, LeaseOutcome, Question, decided, outright
from app.limiter.errors import StoreError, StoreFault
from app.limiter.fallback.fallback import Fallback
from app.limiter.joint.joint_rule import of_part, owned_parts
from app.limiter.joint.matches import Owned
from app.limiter.joint.spanning_leases import SpanningLeases
from app.limiter.keys import HASH_LENGTH, lease_name, public_part
from app.limiter.limiter import Limiter, Stored, with_shadow
from app.limiter.redis.script_calls import NONSENSE
from app.limiter.redis.scripts import lease_release_script, lease_script
from app.limiter.store import DenialCounter
from app.observability.active_clients import ActiveClients
from app.rules.errors import NotFound
from app.rules.matching.layer_bounds import MAX_LAYERS

NONCE_BYTES = 12  # 16 characters, so that a lease id cannot be guessed
COUNTED = rf"(?:0|[1-9][0-9]{{0,18}})\.[\w-]{{{HASH_LENGTH}}}"  # a rule, and the owner of its counters
# The rules that decide, and a nonce. The built-in default may decide beside a rule of each of the most layers.
LEASE_ID = re.compile(rf"({COUNTED}(?:~{COUNTED}){{0,{MAX_LAYERS}}})\.([\w-]{{16}})", re.ASCII)
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
        self._spanning = SpanningLeases(limiter.spanning)
        self._fallback = fallback
        self._active_clients = active_clients
        self._denied_clients = denied_clients
        self._clock = clock

    def acquire(self, question: Question, ttl_ms: int) -> Grant:
        """Grant as many permits as the question costs, or as many as are left. Raises Unavailable and NotReady."""
        compiled_rules, nonce = self._limiter.current_rules(), token_urlsafe(NONCE_BYTES)
        charge = compiled_rules.charge(*question)
        self._active_clients.add([charge.client])
        parts = owned_parts(charge)
        decision, granted = self._decided(charge, self._granted(charge, nonce, ttl_ms * 1000))
        if not granted:
            self._denied_clients.denied(question[0], question[1].client_id, decision.compiled.rule)
            return Grant(decision, 0, None, None)
        charge.compiled.counts.granted(granted)
        lease_id = "~".join(f"{part.rule.id}.{public_part(owner)}" for part, owner in parts) + f".{nonce}"
        expires_at = (decision.outcome.now_us + ttl_ms * 1000) / 1_000_000
        return Grant(
            self._beside_shadow(compiled_rules, question, charge, granted, decision), granted, lease_id, expires_at
        )

    def release(self, tenant_id: int, lease_id: str, unused: int) -> int:
        """Refund unused permits; return how many in total. A repeated call gives the same number.

        Raises NotFound if the lease is unknown to the tenant or has expired; Unavailable and NotReady.
        """
        compiled_rules, found = self._limiter.current_rules(), LEASE_ID.fullmatch(lease_id)
        if found is None:
            raise NotFound(GONE)
        named = [part.split(".") for part in found[1].split("~")]
        rules = [compiled_rules.book.rule(tenant_id, int(rule_id)) for rule_id, _ in named]
        owners = [compiled_rules.client_named(tenant_id, owner) for _, owner in named]
        counted = [Owned(rule, owner) for rule, owner in zip(rules, owners, strict=True) if rule is not None]
        if len(counted) < len(named):
            raise NotFound(GONE)
        compiled, client, owned = compiled_rules.match(counted, owners[0])
        charge = Charge(compiled, client, unused, None, owned)
        outcome = self._returned(charge, found[2])
        if outcome is None:  # the rule counts nothing
            return 0
        if outcome.permits < 0:
            raise NotFound(GONE)
        compiled.counts.returned(outcome.remaining)
        return outcome.permits

    def _granted(self, charge: Charge, nonce: str, ttl_us: int) -> LeaseOutcome | None:
        grant, back = partial(_grant, nonce=nonce, ttl_us=ttl_us), partial(_back, nonce=nonce)
        if self._limiter.spans(charge):
            return self._sure(self._spanning.acquire(charge, grant, back))
        # The lease lies beside the first counter, whose owner its id names.
        owner = owned_parts(charge)[0][1]
        return self._sure(*self._limiter.outcomes([replace(charge, client=owner, record=grant(charge))]))

    def _returned(self, charge: Charge, nonce: str) -> LeaseOutcome | None:
        if self._limiter.spans(charge):
            return self._sure(self._spanning.release(charge, partial(_back, nonce=nonce)))
        return self._sure(*self._limiter.outcomes([replace(charge, record=_back(charge, nonce))]))

    def _sure(self, outcome: Stored) -> LeaseOutcome | None:
        """Return the outcome; None if the rule counts nothing. Raises Unavailable."""
        if outcome is None or isinstance(outcome, LeaseOutcome):
            return outcome
        error = outcome if isinstance(outcome, StoreError) else StoreFault(NONSENSE)
        raise self._fallback.refused_lease(error) from error

    def _decided(self, charge: Charge, outcome: LeaseOutcome | None) -> tuple[Decision, int]:
        """Return the decision and the number of permits granted."""
        if outcome is not None:
            return of_part(decided(charge.compiled, outcome)), outcome.permits
        decision = outright(charge.compiled, int(self._clock() * 1_000_000))
        return decision, charge.cost if decision.allowed else 0

    def _beside_shadow(
        self, compiled_rules: CompiledRules, question: Question, charge: Charge, granted: int, decision: Decision
    ) -> Decision:
        """Return the decision, combined with the answers of shadow rules to a check of as many units."""
        tenant_id, check = question
        shadows = compiled_rules.shadow_charges(tenant_id, replace(check, cost=granted), charge.client)
        for shadow, outcome in zip(shadows, self._limiter.outcomes(shadows), strict=True):
            decision = with_shadow(shadow, outcome, decision)
        return decision


def _grant(charge: Charge, nonce: str, ttl_us: int) -> ChargeRecord:
    return ChargeRecord(_name(charge, nonce), b"%d" % ttl_us, lease_script())


def _back(charge: Charge, nonce: str) -> ChargeRecord:
    return ChargeRecord(_name(charge, nonce), script=lease_release_script())


def _name(charge: Charge, nonce: str) -> bytes:
    return lease_name(charge.compiled.counter_names, nonce, [owner for _, owner in owned_parts(charge)[1:]])
