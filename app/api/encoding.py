"""From decisions to bytes: the JSON of the answer, and its RateLimit headers in the dialect of the settings.

What does not change from one decision of a limit to the next is encoded once, in a Template.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from app.limiter.decision import Decision
from app.limiter.plan import Plan
from app.rules.rule import Limit

JSON = b"Content-Type: application/json\r\n"
MAX_TEMPLATES = 20_000  # about 1 KiB each; beyond it they are made anew
ANY = (b"%b", b"%d", b"%b", b"%d", b"%06d", b"%b", b"%b")  # what stands in the places of a body


class Template(NamedTuple):
    """Each with places for what changes: see Encoder.body and Encoder.head."""

    admitted: bytes  # the body of most decisions: allowed, within the limit, by Redis
    denied: bytes  # of most others: over the limit, and waiting helps
    body: bytes
    head: bytes


class Encoder:
    """`dialect` is draft-10, legacy or off; `default_window` stands for the window of rules that have none."""

    def __init__(self, dialect: str, default_window: int) -> None:
        self._dialect = dialect
        self._default_window = default_window
        self._templates: dict[tuple[Plan, int], Template] = {}

    def body(self, decision: Decision) -> bytes:
        """The JSON object of one decision."""
        template, outcome = self._template(decision), decision.outcome
        reset_at = divmod(outcome.now_us + outcome.reset_after_us, 1_000_000)
        if decision.reason == "within_limit":
            return template.admitted % (outcome.remaining, *reset_at)
        retry = decision.retry_after_ms
        if decision.reason == "over_limit" and not decision.degraded:
            return template.denied % (outcome.remaining, retry, *reset_at)
        return template.body % (
            b"true" if outcome.allowed else b"false",
            outcome.remaining,
            b"null" if retry is None else b"%d" % retry,
            *reset_at,
            decision.reason.encode(),
            b"true" if decision.degraded else b"false",
        )

    def head(self, decision: Decision) -> bytes:
        """The header lines of one decision, each with its line end."""
        outcome = decision.outcome
        retry_seconds = _seconds(outcome.retry_after_us) if outcome.retry_after_us else 0
        retry_after = b"Retry-After: %d\r\n" % retry_seconds if retry_seconds else b""
        if self._dialect == "off":
            return JSON + retry_after
        if self._dialect == "legacy":
            at = _seconds(decision.reset_at_us)
        else:
            # While denied, what matters next is when to come back, and Retry-After must not be earlier than t.
            at = retry_seconds or _seconds(outcome.reset_after_us)
        return self._template(decision).head % (outcome.remaining, at) + retry_after

    def _template(self, decision: Decision) -> Template:
        key = (decision.plan, decision.outcome.binding)
        template = self._templates.get(key)
        if template is None:
            if len(self._templates) >= MAX_TEMPLATES:
                self._templates.clear()
            body = self._body_of(decision)
            admitted = body % (b"true", b"%d", b"0", b"%d", b"%06d", b"within_limit", b"false")
            denied = body % (b"false", b"%d", b"%d", b"%d", b"%06d", b"over_limit", b"false")
            template = self._templates[key] = Template(admitted, denied, body % ANY, JSON + self._head_of(decision))
        return template

    def _body_of(self, decision: Decision) -> bytes:
        """The object with a place for the text of each member that changes."""
        limit = decision.limit
        return (
            b'{"allowed":%%b,"remaining":%%b,"retry_after_ms":%%b,"limit":%d,"window":%d,"reset_at":%%b.%%b,'
            b'"algorithm":%b,"rule_id":%b,"reason":"%%b","degraded":%%b}'
        ) % (
            decision.most_at_once,
            limit.window if limit else self._default_window,
            b'"%b"' % str(limit.algorithm).encode() if limit else b"null",
            json.dumps(decision.plan.rule.public_id).encode(),
        )

    def _head_of(self, decision: Decision) -> bytes:
        if self._dialect == "legacy":
            return b"X-RateLimit-Limit: %d\r\nX-RateLimit-Remaining: %%d\r\nX-RateLimit-Reset: %%d\r\n" % (
                decision.most_at_once
            )
        policies = ", ".join(self._policies(decision)).encode()
        name = _policy_name(decision.plan, decision.limit).encode()
        return b'RateLimit-Policy: %b\r\nRateLimit: "%b";r=%%d;t=%%d\r\n' % (policies, name)

    def _policies(self, decision: Decision) -> list[str]:
        """draft-ietf-httpapi-ratelimit-headers-10: every limit is a policy, named by the rule and its place there."""
        if decision.limit is None:
            return [f'"{_policy_name(decision.plan, None)}";q={decision.most_at_once};w={self._default_window}']
        limits = decision.plan.rule.limits
        return [f'"{_policy_name(decision.plan, limit)}";q={limit.capacity};w={limit.window}' for limit in limits]


def _policy_name(plan: Plan, limit: Limit | None) -> str:
    limits = plan.rule.limits
    place = f".{limits.index(limit) + 1}" if limit and len(limits) > 1 else ""
    return f"{plan.rule.public_id}{place}"


def _seconds(microseconds: int) -> int:
    """Whole seconds, rounded up."""
    return -(-microseconds // 1_000_000)
