"""Turns questions into decisions: match the rule, look for a remembered denial, ask the store, else fall back."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence

from msgspec.structs import replace

from app.limiter.breaker.guarded import guarded
from app.limiter.breaker.per_primary import AnyBreaker
from app.limiter.compiled_rule import Charge
from app.limiter.compiled_rules import CompiledRules
from app.limiter.decision import Decision, EarlierOutcome, Outcome, Question, decided, degraded, outright
from app.limiter.denial_cache import MAX_SECONDS, DenialCache
from app.limiter.errors import NotReady, RequestIdConflict, Unavailable
from app.limiter.fallback.fallback import Fallback
from app.limiter.fallback.fallback_log import FallbackLog
from app.limiter.joint.full_counters import FullCounters
from app.limiter.joint.joint_rule import as_of, of_part
from app.limiter.joint.parts import PassingDenial
from app.limiter.joint.placement import spans
from app.limiter.joint.progress import Decided
from app.limiter.joint.spanning import Spanning
from app.limiter.joint.together import together
from app.limiter.store import DenialCounter, PartStore, RuleSource
from app.observability.active_clients import ActiveClients
from app.observability.metrics import SHADOW_BLOCKED
from app.observability.rule_counts import Counts
from app.rules.sync.yielding import Pace

# A denial that units on their way back may have caused is remembered for this much less than another: for 50 ms at
# most. They come back within a round trip.
PASSING_EARLIER = MAX_SECONDS - 0.05

Answer = Decision | Unavailable | RequestIdConflict
# The store's outcome, or the error that prevented one; None if the rule counts nothing.
Stored = Decided | None
NO_SHADOWS: tuple[Sequence[int], Sequence[Charge]] = (), ()


class Limiter:
    """Decides checks for one worker.

    `clock` is Unix time in seconds, used if Redis is not asked. `monotonic` is the clock of `denials`, in seconds.
    """

    def __init__(
        self,
        *,
        rules: RuleSource,
        store: PartStore,
        fallback: Fallback,
        breaker: AnyBreaker,
        fallback_log: FallbackLog,
        denials: DenialCache,
        active_clients: ActiveClients,
        denied_clients: DenialCounter,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._rules = rules
        self._store = store
        self._fallback = fallback
        self._breaker = breaker
        self._fallback_log = fallback_log
        self.spanning = Spanning(store=store, breaker=breaker, fallback=fallback, fallback_log=fallback_log)
        self._denials = denials
        self._full_counters = FullCounters(monotonic)
        self._active_clients = active_clients
        self._denied_clients = denied_clients
        self._clock = clock
        self._monotonic = monotonic
        self._compiled_rules: CompiledRules | None = None

    @property
    def probe_due(self) -> bool:
        """Whether the next check may wait for a store that has failed. Other checks should not be batched with it."""
        return self._breaker.probe_due

    def check(self, questions: Sequence[Question]) -> list[Answer]:
        """Decide in order, in one round trip to the store. Raises NotReady while no rules are known."""
        compiled_rules = self.current_rules()
        denied = self._denials.among(questions)
        if compiled_rules.layered and self._full_counters.any():
            denied = self._beyond_full_counters(compiled_rules, questions, denied)
        undecided = questions
        if denied:
            undecided = [question for place, question in enumerate(questions) if place not in denied]
        answers = self._ask(compiled_rules, undecided) if undecided else []
        for place, decision in denied.items():  # their clients have been marked as active
            answers.insert(place, decision)
        self._count(questions, answers)
        return answers

    def check_together(self, questions: Sequence[Question]) -> list[Answer]:
        """Decide in order: all are admitted and charged, or none is. Each answer is that of its own check.

        Raises TooMuchTogether, and NotReady while no rules are known.
        """
        compiled_rules = self.current_rules()
        denied = self._beyond_full_counters(compiled_rules, questions, self._denials.among(questions))
        undecided = [question for place, question in enumerate(questions) if place not in denied]

        def decide(charges: Sequence[Charge]) -> Sequence[Stored]:
            return together(self.spanning, charges, denied=bool(denied))

        answers = self._ask(compiled_rules, undecided, decide)
        for place, decision in denied.items():
            answers.insert(place, decision)
        self._count(questions, answers)
        return answers

    def current_rules(self) -> CompiledRules:
        """Return the compiled form of the current rules. Raises NotReady while none are known."""
        book, compiled_rules = self._rules.book, self._compiled_rules
        if book is None:
            raise NotReady
        if compiled_rules is None or compiled_rules.book is not book:
            compiled_rules = self._compiled_rules = CompiledRules(book, compiled_rules)
            self._denials.clear()
            self._full_counters.clear()
        return compiled_rules

    def follow(self, pace: Pace) -> None:
        """Switch to the current rules, and take over the state of the previous ones in pieces."""
        if self._rules.book is not None:
            self.current_rules().take_over(pace)

    def _ask(
        self,
        compiled_rules: CompiledRules,
        questions: Sequence[Question],
        decide: Callable[[Sequence[Charge]], Sequence[Stored]] | None = None,
    ) -> list[Answer]:
        """Return the answers to questions without a remembered denial. `decide` is used instead of `outcomes`."""
        charges = [compiled_rules.charge(tenant_id, check) for tenant_id, check in questions]
        self._active_clients.add([charge.client for charge in charges])
        places, shadows = NO_SHADOWS
        if compiled_rules.book.has_shadows:
            places, shadows = _shadow_charges(compiled_rules, questions, charges)
        asked_at = self._monotonic()
        outcomes = [*decide(charges), *self.outcomes(shadows)] if decide else self.outcomes([*charges, *shadows])
        answers = [
            decided(charge.compiled, outcome) if type(outcome) is Outcome else self._otherwise(charge, outcome)
            for charge, outcome in zip(charges, outcomes, strict=False)
        ]
        if compiled_rules is self._compiled_rules:  # otherwise the rules have changed meanwhile
            self._remember(questions, charges, outcomes, asked_at, but=places)
        if compiled_rules.layered:
            answers = [of_part(answer) if isinstance(answer, Decision) else answer for answer in answers]
        for place, shadow, outcome in zip(places, shadows, outcomes[len(charges) :], strict=True):
            answer = answers[place]
            if isinstance(answer, Decision):
                answers[place] = with_shadow(shadow, outcome, answer)
        return answers

    def _remember(
        self,
        questions: Sequence[Question],
        charges: Sequence[Charge],
        found: Sequence[Stored],
        at: float,
        but: Container[int],
    ) -> None:
        """Remember denials. One beside a shadow rule is not repeated, because that rule must see every check."""
        for place, charge in enumerate(charges):
            outcome = found[place]
            if isinstance(outcome, Outcome) and not outcome.allowed:
                repeat = place not in but
                sent = at - PASSING_EARLIER if isinstance(outcome, PassingDenial) else at
                self._denials.keep(questions[place], charge, outcome, sent, repeat=repeat)
                if charge.owners and repeat:
                    self._full_counters.keep(charge, outcome, sent)

    def _beyond_full_counters(
        self, compiled_rules: CompiledRules, questions: Sequence[Question], denied: Mapping[int, Decision]
    ) -> dict[int, Decision]:
        """Return these denials and those by full shared counters, by index of the question, ascending.

        A shadow rule must see every check, and a request id may repeat an answer; so Redis decides those.
        """
        found = dict(denied)
        for place, (tenant_id, check) in enumerate(questions):
            if check.cost != 1 or check.request_id or place in found or tenant_id not in compiled_rules.layered:
                continue
            charge = compiled_rules.charge(tenant_id, check)
            decision = self._full_counters.denial(charge) if charge.owners else None
            if decision is not None and not compiled_rules.shadow_charges(tenant_id, check, charge.client):
                self._active_clients.add([charge.client])
                found[place] = decision
        return dict(sorted(found.items()))

    def spans(self, charge: Charge) -> bool:
        """Whether the charge has counters in several slots of a cluster."""
        return self._store.spans and spans(charge)

    def outcomes(self, charges: Sequence[Charge]) -> Sequence[Stored]:
        """Return the store's result for each charge, in one round trip through the breaker."""
        counted = [charge for charge in charges if charge.compiled.counts_units]
        stored: Sequence[Decided] = ()
        if counted:
            if self._store.spans and any(map(spans, counted)):  # most have no owners
                stored = self.spanning.outcomes(counted)
            else:
                stored, decides = guarded(self._breaker, self._store.check, counted)
                if decides:
                    self._fallback_log.redis_decided()
        if len(counted) == len(charges):
            return stored
        found = iter(stored)
        return [next(found) if charge.compiled.counts_units else None for charge in charges]

    def _otherwise(self, charge: Charge, stored: Stored) -> Answer:
        """Return the answer if Redis was not asked, could not decide, or repeated an answer with earlier terms."""
        if not charge.compiled.counts_units:
            return outright(charge.compiled, int(self._clock() * 1_000_000))
        if isinstance(stored, EarlierOutcome):
            return of_part(decided(as_of(charge.compiled, stored.terms), stored))
        if isinstance(stored, PassingDenial):
            return decided(charge.compiled, stored)
        if isinstance(stored, RequestIdConflict | Unavailable):
            return stored
        fallen_back = stored if isinstance(stored, tuple) else self._fallback.decide(charge, stored)
        return fallen_back if isinstance(fallen_back, Unavailable) else degraded(*fallen_back)

    def _count(self, questions: Sequence[Question], answers: Sequence[Answer]) -> None:
        """Raise each metric once for all answers, because raising one costs as much as a decision."""
        admitted: dict[Counts, int] = {}
        denied: dict[Counts, int] = {}
        for (tenant_id, check), answer in zip(questions, answers, strict=True):
            if check.cost and isinstance(answer, Decision):
                compiled = answer.compiled
                if answer.outcome.allowed:
                    admitted[compiled.counts] = admitted.get(compiled.counts, 0) + 1
                else:
                    denied[compiled.counts] = denied.get(compiled.counts, 0) + 1
                    self._denied_clients.denied(tenant_id, check.client_id, compiled.rule)
        for counts, number in admitted.items():
            counts.allowed(number)
        for counts, number in denied.items():
            counts.blocked(number)


def _shadow_charges(
    compiled_rules: CompiledRules, questions: Sequence[Question], charges: Sequence[Charge]
) -> tuple[Sequence[int], Sequence[Charge]]:
    """Return the charges of shadow rules, after the indexes of their questions."""
    places: list[int] = []
    shadows: list[Charge] = []
    for place, (question, charge) in enumerate(zip(questions, charges, strict=True)):
        found = compiled_rules.shadow_charges(*question, charge.client)
        places += [place] * len(found)
        shadows += found
    return places, shadows


def with_shadow(shadow: Charge, outcome: Stored, decision: Decision) -> Decision:
    """Return the enforced rule's decision; its reason changes if only the shadow rule would have denied."""
    rule = shadow.compiled.rule
    blocked = rule.action == "block" and shadow.cost > 0
    denies = blocked or (isinstance(outcome, Outcome) and not outcome.allowed)
    if shadow.cost and (isinstance(outcome, Outcome) or not shadow.compiled.counts_units):
        counts = shadow.compiled.counts
        (counts.blocked if denies else counts.allowed)(1)
    if not denies:
        return decision
    SHADOW_BLOCKED.inc()
    return replace(decision, reason="shadow") if decision.allowed and not decision.degraded else decision
