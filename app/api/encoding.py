"""From decisions to bytes: the JSON of the answer, and its RateLimit headers in the dialect of the settings.

What does not change from one decision of a limit to the next is encoded once, in a Template.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import NamedTuple

from app.limiter.decision import Decision
from app.limiter.plan import Plan
from app.rules.rule import Limit

SECOND = 1_000_000  # microseconds
JSON = b"Content-Type: application/json\r\n"
CUT = "|"  # stands nowhere else in a body

WORDS = ("false", "true")  # json.dumps takes longer than the rest


class Template(NamedTuple):
    """Text with places for what changes: where it was split, or where it says %s. A plan keeps its own."""

    admitted: list[str]  # the body of most decisions (allowed, within the limit, by Redis): remaining, reset_at
    denied: list[str]  # of most others (over the limit): remaining, retry_after_ms, reset_at
    body: str
    head: tuple[str, ...]  # remaining, time; unsplit where it says neither


class Encoder:
    """`dialect` is draft-10, legacy or off; `default_window` stands for the window of rules that have none."""

    def __init__(self, dialect: str, default_window: int) -> None:
        self._dialect = dialect
        self._default_window = default_window

    def body(self, decision: Decision) -> str:
        """The JSON object of one decision."""
        outcome = decision.outcome
        template: Template = decision.plan.templates.get(outcome.binding) or self._template(decision)
        at = str(outcome.now_us + outcome.reset_after_us)
        if decision.reason == "within_limit":
            start, middle, end = template.admitted
            return f"{start}{outcome.remaining}{middle}{at[:-6]}.{at[-6:]}{end}"
        wait_us = decision.retry_after_us
        retry = None if wait_us is None else _rounded_up(wait_us, 1_000)
        if decision.reason == "over_limit" and not decision.degraded:
            start, first, second, end = template.denied
            return f"{start}{outcome.remaining}{first}{retry}{second}{at[:-6]}.{at[-6:]}{end}"
        return template.body % (
            WORDS[outcome.allowed],
            outcome.remaining,
            "null" if retry is None else retry,
            f"{at[:-6]}.{at[-6:]}",
            decision.reason,
            WORDS[decision.degraded],
        )

    def head(self, decision: Decision) -> bytes:
        """The header lines of one decision, each with its line end."""
        outcome = decision.outcome
        retry_seconds = 0 if outcome.allowed else _rounded_up(decision.retry_after_us or 0, SECOND)
        if self._dialect == "legacy":
            at = _rounded_up(decision.reset_at_us, SECOND)
        else:
            # While denied, what matters next is when to come back, and Retry-After must not be earlier than t.
            at = retry_seconds or _rounded_up(decision.reset_after_us, SECOND)
        template: Template = decision.plan.templates.get(outcome.binding) or self._template(decision)
        lines = _again if retry_seconds else _lines
        return lines(template.head, outcome.remaining, at, retry_seconds)

    def _template(self, decision: Decision) -> Template:
        """Make it, for the plan to keep."""
        body = self._body_of(decision)
        admitted = body % ("true", CUT, "0", CUT, "within_limit", "false")
        denied = body % ("false", CUT, CUT, CUT, "over_limit", "false")
        head = tuple(self._head_of(decision).split(CUT))
        template = Template(admitted.split(CUT), denied.split(CUT), body, head)
        decision.plan.templates[decision.outcome.binding] = template
        return template

    def _body_of(self, decision: Decision) -> str:
        """The object with a place for the text of each member that changes."""
        limit = decision.limit
        window = limit.window if limit else self._default_window
        algorithm = json.dumps(limit.algorithm if limit else None)
        rule_id = json.dumps(decision.plan.rule.public_id)
        return (
            f'{{"allowed":%s,"remaining":%s,"retry_after_ms":%s,"limit":{decision.most_at_once},"window":{window},'
            f'"reset_at":%s,"algorithm":{algorithm},"rule_id":{rule_id},"reason":"%s","degraded":%s}}'
        )

    def _head_of(self, decision: Decision) -> str:
        head = JSON.decode()
        if self._dialect == "legacy":
            head += f"X-RateLimit-Limit: {decision.most_at_once}\r\n"
            head += f"X-RateLimit-Remaining: {CUT}\r\nX-RateLimit-Reset: {CUT}\r\n"
        elif self._dialect != "off":
            policies, name = ", ".join(self._policies(decision)), _policy_name(decision.plan, decision.limit)
            head += f'RateLimit-Policy: {policies}\r\nRateLimit: "{name}";r={CUT};t={CUT}\r\n'
        return head

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


def _lines(head: tuple[str, ...], remaining: int, at: int, retry_seconds: int) -> bytes:
    if len(head) == 1:
        lines = head[0]
    else:
        start, middle, end = head
        lines = f"{start}{remaining}{middle}{at}{end}"
    return (f"{lines}Retry-After: {retry_seconds}\r\n" if retry_seconds else lines).encode()


# Who is denied hears the same for a second. About a megabyte.
_again = lru_cache(maxsize=4096)(_lines)


def _rounded_up(amount: int, unit: int) -> int:
    return -(-amount // unit)
