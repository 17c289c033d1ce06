"""From questions to decisions: the rule, what is remembered, the store, and where it cannot decide, the ladder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec.structs import replace
from pybreaker import CircuitBreakerError

from app.limiter.breaker import Breaker
from app.limiter.decision import Check, Decision, Outcome
from app.limiter.denial_cache import DenialCache
from app.limiter.errors import NotReady, RequestIdConflict, StoreError, StoreUnavailable, Unavailable
from app.limiter.keys import Keyspace, answer_name, meaning
from app.limiter.ladder import Ladder
from app.limiter.plan import Charge, Once, Plan
from app.observability.active_clients import ActiveClients
from app.observability.metrics import SHADOW_BLOCKED
from app.rules.rule import MAX_AMOUNT, Rule
from app.rules.rule_book import RuleBook


class Store(Protocol):
    def check(self, charges: Sequence[Charge]) -> list[Outcome | StoreError]: ...


class RuleSource(Protocol):
    @property
    def book(self) -> RuleBook | None: ...


Answer = Decision | Unavailable | RequestIdConflict


class Ask:
    """One rule's part in a check. Rules that allow or block outright have no charge and get no outcome."""

    __slots__ = ("charge", "outcome", "plan")

    def __init__(self, plan: Plan, charge: Charge | None) -> None:
        self.plan = plan
        self.charge = charge
        self.outcome: Outcome | StoreError | None = None


class Limiter:
    """Decides checks for one worker. `clock` is Unix time in seconds, for what Redis is not asked about."""

    def __init__(
        self,
        *,
        rules: RuleSource,
        store: Store,
        ladder: Ladder,
        breaker: Breaker,
        denials: DenialCache,
        active_clients: ActiveClients,
        clock: Callable[[], float],
    ) -> None:
        self._rules = rules
        self._store = store
        self._ladder = ladder
        self._breaker = breaker
        self._denials = denials
        self._active_clients = active_clients
        self._clock = clock
        self._keyspace = Keyspace(b"")
        self._book: RuleBook | None = None
        self._plans: dict[int, Plan] = {}

    def check(self, tenant_id: int, checks: Sequence[Check]) -> list[Answer]:
        """Decide in order, in one trip to the store. Raises NotReady while no rules are known."""
        book = self._rules.book
        if book is None:
            raise NotReady
        if book is not self._book:
            self._book, self._plans, self._keyspace = book, {}, Keyspace(book.edition.key_secret)
            self._denials.clear()
        asked = [self._asks(book, tenant_id, check) for check in checks]
        self._decide([ask for pair in asked for ask in pair if ask and ask.charge and ask.outcome is None])
        return [self._answer(check, *pair) for check, pair in zip(checks, asked, strict=True)]

    def _asks(self, book: RuleBook, tenant_id: int, check: Check) -> tuple[Ask, Ask | None]:
        """What the enforcing rule is asked, and what a shadow rule is asked beside it."""
        client = self._keyspace.client(tenant_id, check.client_id)
        self._active_clients.add(client)
        rule = book.match(tenant_id, check.client_id, check.limit_key)
        shadow = book.match_shadow(tenant_id, check.client_id, check.limit_key)
        if shadow is not None:
            return self._ask(rule, client, check), self._ask(shadow, client, check)
        ask = self._ask(rule, client, check)
        if (
            ask.charge is not None and ask.charge.once is None
        ):  # an id may stand for an earlier yes; and beside a shadow every check is asked: the shadow has to see it
            ask.outcome = self._denials.get(ask.charge)
        return ask, None

    def _ask(self, rule: Rule, client: bytes, check: Check) -> Ask:
        plan = self._plans.get(rule.id)
        if plan is None:
            plan = self._plans[rule.id] = Plan(rule)
        if not plan.charges:
            return Ask(plan, None)
        once = None
        if check.request_id is not None and check.cost:
            name = answer_name(check.request_id, shadow=rule.shadow)
            once = Once(name, meaning(check.limit_key, check.cost))
        return Ask(plan, Charge(plan, client, check.cost, once))

    def _decide(self, asks: Sequence[Ask]) -> None:
        """Fill in the outcomes: the store's, or the error that kept it from deciding."""
        charges = [ask.charge for ask in asks if ask.charge]
        if not charges:
            return
        outcomes: Sequence[Outcome | StoreError]
        asked_at = self._denials.clock()
        try:
            outcomes = self._breaker.call(self._trip, charges)
        except TripFailed as failed:
            outcomes = failed.outcomes
        except StoreError as error:
            outcomes = [error] * len(charges)
        except CircuitBreakerError:
            outcomes = [StoreUnavailable("circuit open")] * len(charges)
        for ask, charge, outcome in zip(asks, charges, outcomes, strict=True):
            ask.outcome = outcome
            if isinstance(outcome, Outcome) and not outcome.allowed:
                self._denials.keep(charge, outcome, asked_at)

    def _trip(self, charges: Sequence[Charge]) -> Sequence[Outcome | StoreError]:
        outcomes = self._store.check(charges)
        for outcome in outcomes:
            if isinstance(outcome, StoreUnavailable):
                raise TripFailed(outcomes)
        return outcomes

    def _answer(self, check: Check, ask: Ask, shadow: Ask | None) -> Answer:
        answer = self._outright(ask.plan) if ask.charge is None else self._charged(ask.charge, ask.outcome)
        if not isinstance(answer, Decision):
            return answer
        if shadow and isinstance(shadow.outcome, Outcome) and not shadow.outcome.allowed:
            SHADOW_BLOCKED.inc()
            answer = replace(answer, reason="shadow") if answer.allowed else answer
        if check.cost:
            (ask.plan.allowed if answer.allowed else ask.plan.blocked).inc()
        return answer

    def _outright(self, plan: Plan) -> Decision:
        """The decision of a rule that counts nothing."""
        allow = plan.rule.action == "allow"
        return Decision(
            plan=plan,
            binding=-1,
            allowed=allow,
            remaining=MAX_AMOUNT if allow else 0,
            retry_after_ms=0 if allow else None,
            now_us=self._now_us(),
            reset_after_us=0,
            reason="allowed_by_rule" if allow else "blocked_by_rule",
        )

    def _charged(self, charge: Charge, outcome: Outcome | StoreError | None) -> Answer:
        if isinstance(outcome, Outcome):
            return _decision(charge.plan, outcome)
        if isinstance(outcome, RequestIdConflict):
            return outcome
        fallen_back = self._ladder.decide(charge)
        return fallen_back if isinstance(fallen_back, Unavailable) else _decision(*fallen_back, degraded=True)

    def _now_us(self) -> int:
        return int(self._clock() * 1_000_000)


def _decision(plan: Plan, outcome: Outcome, *, degraded: bool = False) -> Decision:
    wait_us = outcome.retry_after_us
    if outcome.allowed:
        reason = "degraded" if degraded else "within_limit"
    else:
        reason = "cost_exceeds_limit" if wait_us is None else "over_limit"
    return Decision(
        plan=plan,
        binding=min(outcome.binding, len(plan.rule.limits) - 1),  # an answer kept under a request id may be older
        allowed=outcome.allowed,
        remaining=outcome.remaining,
        retry_after_ms=None if wait_us is None else -(-wait_us // 1000),
        now_us=outcome.now_us,
        reset_after_us=outcome.reset_after_us,
        reason=reason,
        degraded=degraded,
    )


class TripFailed(StoreUnavailable):
    """Some outcomes of the trip are errors that count against the store. Carries all of them."""

    def __init__(self, outcomes: Sequence[Outcome | StoreError]) -> None:
        super().__init__("the store could not decide every check")
        self.outcomes = outcomes
