"""Books and limiters of rules in layers, under keys of their own."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from app.limiter.decision import Check, Decision
from app.limiter.limiter import Limiter
from app.limiter.store import PartStore
from app.rules.rule import Limit, Rule, default_rule
from app.rules.rule_book import RuleBook, Snapshot
from tests.support.limiters import limiter_of

LIMITS = (Limit(5, 3600, "gcra"),)


@dataclass
class Current:
    """A source of rules whose book a test may change."""

    book: RuleBook | None


def rule(rule_id: int, client_id: str = "", **fields: object) -> Rule:
    return Rule(**{"id": rule_id, "client_id": client_id, "limits": LIMITS, **fields})  # type: ignore[arg-type]


def book(*rules: Rule, secret: bytes = b"", previous: RuleBook | None = None) -> RuleBook:
    snapshot = Snapshot(1, secret or uuid.uuid4().bytes, rules)
    return RuleBook(snapshot, default=default_rule(100, 3600), algorithm="gcra", previous=previous)


def limiter(
    store: PartStore, *rules: Rule, fail_mode: str = "open", clock: Callable[[], float] = time.monotonic
) -> tuple[Limiter, Current]:
    """A limiter, and the source of its rules."""
    current = Current(book(*rules))
    return limiter_of(current, store, fail_mode=fail_mode, clock=clock), current


def decided(subject: Limiter, *checks: Check) -> list[Decision]:
    """The decisions of the checks, made together."""
    answers = subject.check([(1, check) for check in checks])
    return [answer for answer in answers if isinstance(answer, Decision)]
