"""RateLimit headers of a decision, in the dialect of the RATELIMIT_HEADERS setting."""

from __future__ import annotations

import math

from app.limiter.decision import Decision
from app.rules.rule import Limit

Headers = list[tuple[str, str]]


def decision_headers(decision: Decision, dialect: str, default_window: int) -> Headers:
    """`Retry-After` on denials that waiting can help, and what the dialect adds: draft-10, legacy or off."""
    headers: Headers = []
    if decision.retry_after_ms:
        headers.append(("Retry-After", str(_whole_seconds(decision.retry_after_ms))))
    if dialect == "legacy":
        headers += _legacy(decision)
    elif dialect == "draft-10":
        headers += _draft(decision, default_window)
    return headers


def _legacy(decision: Decision) -> Headers:
    return [
        ("X-RateLimit-Limit", str(decision.most_at_once)),
        ("X-RateLimit-Remaining", str(decision.remaining)),
        ("X-RateLimit-Reset", str(math.ceil(decision.reset_at))),
    ]


def _draft(decision: Decision, default_window: int) -> Headers:
    """draft-ietf-httpapi-ratelimit-headers-10: every limit is a policy, the binding one has the numbers.

    A policy is named by the rule, and by the limit's place where a rule has several.
    """
    limits = decision.rule.limits if decision.limit else ()
    policies = [f'"{_policy(decision, limit)}";q={limit.capacity};w={limit.window}' for limit in limits]
    if not policies:
        policies = [f'"{_policy(decision, None)}";q={decision.most_at_once};w={default_window}']
    # While denied, what matters next is when to come back, and Retry-After must not be earlier than t.
    wait_ms = decision.retry_after_ms or decision.reset_after_us / 1000
    now = f'"{_policy(decision, decision.limit)}";r={decision.remaining};t={_whole_seconds(wait_ms)}'
    return [("RateLimit-Policy", ", ".join(policies)), ("RateLimit", now)]


def _policy(decision: Decision, limit: Limit | None) -> str:
    limits = decision.rule.limits
    place = f".{limits.index(limit) + 1}" if limit and len(limits) > 1 else ""
    return f"{decision.rule.public_id}{place}"


def _whole_seconds(milliseconds: float) -> int:
    return math.ceil(milliseconds / 1000)
