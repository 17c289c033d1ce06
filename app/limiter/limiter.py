"""From questions to decisions: the rule, what is remembered, the store, and where it cannot decide, the ladder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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


Question = tuple[int, Check]  # with the id of the tenant whose caller asks
Answer = Decision | Unavailable | RequestIdConflict


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

    def check(self, questions: Sequence[Question]) -> list[Answer]:
        """Decide in order, in one trip to the store. Raises NotReady while no rules are known."""
        book = self._rules.book
        if book is None:
            raise NotReady
        if book is not self._book:
            self._book, self._plans, self._keyspace = book, {}, Keyspace(book.edition.key_secret)
            self._denials.clear()
        charges = [self._charge(book, tenant_id, check) for tenant_id, check in questions]
        shadows = self._shadows(book, questions, charges)
        self._active_clients.add([charge.client for charge in charges])
        self._decide(charges, shadows)
        answers = [self._answer(charge) for charge in charges]
        for place, shadow in shadows.items():
            answers[place] = _beside(shadow, answers[place])
        _count(charges, answers)
        return answers

    def _charge(self, book: RuleBook, tenant_id: int, check: Check) -> Charge:
        """What the enforcing rule asks of the store."""
        rule = book.match(tenant_id, check.client_id, check.limit_key)
        return self._charge_of(rule, self._keyspace.client(tenant_id, check.client_id), check)

    def _charge_of(self, rule: Rule, client: bytes, check: Check) -> Charge:
        plan = self._plans.get(rule.id)
        if plan is None:
            plan = self._plans[rule.id] = Plan(rule)
        if check.request_id is None or not check.cost:
            return Charge(plan, client, check.cost)
        name = answer_name(check.request_id, shadow=rule.shadow)
        return Charge(plan, client, check.cost, Once(name, meaning(check.limit_key, check.cost)))

    def _shadows(self, book: RuleBook, questions: Sequence[Question], charges: Sequence[Charge]) -> dict[int, Charge]:
        """By the place of the question: what a shadow rule asks beside the enforcing one."""
        if not book.has_shadows:
            return {}
        found = {}
        for place, (tenant_id, check) in enumerate(questions):
            rule = book.match_shadow(tenant_id, check.client_id, check.limit_key)
            if rule is not None:
                found[place] = self._charge_of(rule, charges[place].client, check)
        return found

    def _decide(self, charges: Sequence[Charge], shadows: Mapping[int, Charge]) -> None:
        """Fill in the outcomes: remembered, or the store's, or the error that kept it from deciding."""
        asked = []
        for place, charge in enumerate(charges):
            shadow = shadows.get(place)
            # Beside a shadow every check is asked, as the shadow has to see it.
            charge.outcome = self._denials.get(charge) if shadow is None else None
            asked += [each for each in (charge, shadow) if each and each.plan.charges and each.outcome is None]
        if not asked:
            return
        asked_at = self._denials.clock()
        for charge, outcome in zip(asked, self._outcomes(asked), strict=True):
            charge.outcome = outcome
            if isinstance(outcome, Outcome) and not outcome.allowed:
                self._denials.keep(charge, outcome, asked_at)

    def _outcomes(self, charges: Sequence[Charge]) -> Sequence[Outcome | StoreError]:
        try:
            return self._breaker.call(self._trip, charges)
        except TripFailed as failed:
            return failed.outcomes
        except StoreError as error:
            return [error] * len(charges)
        except CircuitBreakerError:
            return [StoreUnavailable("circuit open")] * len(charges)

    def _trip(self, charges: Sequence[Charge]) -> Sequence[Outcome | StoreError]:
        outcomes = self._store.check(charges)
        for outcome in outcomes:
            if isinstance(outcome, StoreUnavailable):
                raise TripFailed(outcomes)
        return outcomes

    def _answer(self, charge: Charge) -> Answer:
        outcome = charge.outcome
        if isinstance(outcome, Outcome):
            return _decision(charge.plan, outcome)
        if not charge.plan.charges:
            return self._outright(charge.plan)
        if isinstance(outcome, RequestIdConflict):
            return outcome
        fallen_back = self._ladder.decide(charge)
        return fallen_back if isinstance(fallen_back, Unavailable) else _decision(*fallen_back, degraded=True)

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


def _beside(shadow: Charge, answer: Answer) -> Answer:
    """The enforcing rule's answer, with the reason where only the shadow rule would have denied."""
    if not (isinstance(answer, Decision) and isinstance(shadow.outcome, Outcome)) or shadow.outcome.allowed:
        return answer
    SHADOW_BLOCKED.inc()
    return replace(answer, reason="shadow") if answer.allowed else answer


def _count(charges: Sequence[Charge], answers: Sequence[Answer]) -> None:
    """Raise the metrics, each once however many answers it counts: raising one costs as much as deciding."""
    counters = [
        charge.plan.allowed if answer.allowed else charge.plan.blocked
        for charge, answer in zip(charges, answers, strict=True)
        if charge.cost and isinstance(answer, Decision)
    ]
    for counter, times in Counter(counters).items():
        counter.inc(times)


class TripFailed(StoreUnavailable):
    """Some outcomes of the trip are errors that count against the store. Carries all of them."""

    def __init__(self, outcomes: Sequence[Outcome | StoreError]) -> None:
        super().__init__("the store could not decide every check")
        self.outcomes = outcomes
