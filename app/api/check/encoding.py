"""From decisions to bytes: the JSON of the answer, and its RateLimit headers in the configured dialect.

An AnswerTemplate holds the constant parts of a limit's answers, a DenialTemplate those of a repeated denial. Each is
made once. The encoder owns both, and their numbers are bounded.
"""

from __future__ import annotations

import json
import sys
from typing import Any, NamedTuple

from msgspec import Struct

from app.limiter.compiled_rule import CompiledRule
from app.limiter.decision import Decision
from app.limiter.joint.joint_rule import JointRule
from app.rules.rule import Limit

SECOND = 1_000_000  # microseconds. Times are rounded up: -(-time // unit)
JSON_HEAD = b"Content-Type: application/json\r\n"
CUT = "|"  # appears nowhere else in a body
MAX_CACHED_RULES = 200_000  # compiled rules with templates, about 1 KB each; a full cache is emptied
MAX_CACHED_DENIALS = 10_000  # denials, about 0.5 KB each; a full cache is emptied

MAX_POLICIES = 8  # named in one answer of several rules

JSON_BOOLEANS = ("false", "true")  # indexed by a bool: json.dumps would take longer than the rest


class AnswerTemplate(Struct, frozen=True, gc=False):
    """Constant text with places for variables: split there, or with %s."""

    admitted: tuple[str, ...]  # body of the most frequent decision (within_limit), split at remaining and reset_at
    body: str
    head: tuple[str, ...]  # header lines, split at remaining and time; one part without them


class DenialTemplate(NamedTuple):
    """A cached denial: its body around retry_after_ms, and its header lines by the seconds of Retry-After."""

    body: tuple[str, str]
    heads: dict[int, bytes]


class Encoder:
    """`dialect` is draft-10, legacy or off. `default_window` is the `window` (seconds) of rules without limits."""

    def __init__(self, dialect: str, default_window: int) -> None:
        self._dialect = dialect
        self._default_window = default_window
        # By number of the compiled rule, then binding limit; of a joint rule, by its part and the part's binding limit.
        self._templates: dict[int, dict[int | tuple[int, int], AnswerTemplate]] = {}
        self._repeated: dict[int, DenialTemplate] = {}  # by number of the denial

    def body(self, decision: Decision) -> str:
        """The JSON object of one decision."""
        if decision.reason == "within_limit":
            outcome = decision.outcome
            try:
                template = self._templates[decision.compiled.number][outcome.binding]
            except KeyError:
                template = self._template(decision)
            start, middle, end = template.admitted
            at = str(outcome.now_us + outcome.reset_after_us)
            return f"{start}{outcome.remaining}{middle}{at[:-6]}.{at[-6:]}{end}"
        wait_us = decision.retry_after_us
        wait_ms = "null" if wait_us is None else -(-wait_us // 1_000)
        if decision.repeats:
            try:
                start, end = self._repeated[decision.repeats].body
            except KeyError:
                start, end = self._repetition(decision).body
            return f"{start}{wait_ms}{end}"
        return self._body(decision, wait_ms)

    def head(self, decision: Decision) -> bytes:
        """The header lines of one decision, each with its line end."""
        if decision.outcome.allowed:
            return self._head(decision, 0)
        retry_seconds = -(-(decision.retry_after_us or 0) // SECOND)
        if not decision.repeats:
            return self._head(decision, retry_seconds)
        try:
            return self._repeated[decision.repeats].heads[retry_seconds]
        except KeyError:
            lines = self._repetition(decision).heads[retry_seconds] = self._head(decision, retry_seconds)
            return lines

    def members(self, decision: Decision) -> dict[str, Any]:
        """The members of `body`, for a document with further members."""
        limit, wait_us = decision.limit, decision.retry_after_us
        return {
            "allowed": decision.allowed,
            "remaining": decision.outcome.remaining,
            "retry_after_ms": None if wait_us is None else -(-wait_us // 1_000),
            "limit": decision.most_at_once,
            "window": limit.window if limit else self._default_window,
            "reset_at": decision.reset_at_us / 1_000_000,
            "algorithm": limit.algorithm if limit else None,
            "rule_id": decision.compiled.rule.public_id,
            "reason": decision.reason,
            "degraded": decision.degraded,
        }

    def _repetition(self, decision: Decision) -> DenialTemplate:
        repeated = self._repeated.get(decision.repeats)
        if repeated is None:
            if len(self._repeated) >= MAX_CACHED_DENIALS:
                self._repeated.clear()
            start, _, end = self._body(decision, CUT).partition(CUT)
            repeated = self._repeated[decision.repeats] = DenialTemplate((start, end), {})
        return repeated

    def _body(self, decision: Decision, retry_after_ms: int | str) -> str:
        outcome = decision.outcome
        try:
            template = self._templates[decision.compiled.number][outcome.binding]
        except KeyError:
            template = self._template(decision)
        at = str(decision.reset_at_us)
        return template.body % (
            JSON_BOOLEANS[outcome.allowed],
            outcome.remaining,
            retry_after_ms,
            f"{at[:-6]}.{at[-6:]}",
            decision.reason,
            JSON_BOOLEANS[decision.degraded],
        )

    def _head(self, decision: Decision, retry_seconds: int) -> bytes:
        outcome, joint = decision.outcome, decision.joint
        try:
            if joint is None:
                template = self._templates[decision.compiled.number][outcome.binding]
            else:
                template = self._templates[joint.number][decision.compiled.number, outcome.binding]
        except KeyError:
            template = self._template(decision, joint)
        lines = template.head[0]
        if len(template.head) > 1:
            if self._dialect == "legacy":
                at = -(-decision.reset_at_us // SECOND)
            else:
                # t of a denial is the time to wait: Retry-After must not be earlier than t.
                at = retry_seconds or -(-decision.reset_after_us // SECOND)
            start, middle, end = template.head
            lines = f"{start}{outcome.remaining}{middle}{at}{end}"
        return (f"{lines}Retry-After: {retry_seconds}\r\n" if retry_seconds else lines).encode()

    def _template(self, decision: Decision, joint: CompiledRule | None = None) -> AnswerTemplate:
        """Make the template and cache it. With `joint`, its head names the limits of all rules that decide together."""
        body = self._body_of(decision)
        admitted = body % ("true", CUT, "0", CUT, "within_limit", "false")
        template = AnswerTemplate(_cut(admitted), body, _cut(self._head_of(decision, joint)))
        if len(self._templates) >= MAX_CACHED_RULES:
            self._templates.clear()
        compiled, binding = decision.compiled, decision.outcome.binding
        if joint is None:
            self._templates.setdefault(compiled.number, {})[binding] = template
        else:
            self._templates.setdefault(joint.number, {})[compiled.number, binding] = template
        return template

    def _body_of(self, decision: Decision) -> str:
        """The object, with %s for the text of each member that changes."""
        limit = decision.limit
        window = limit.window if limit else self._default_window
        algorithm = json.dumps(limit.algorithm if limit else None)
        rule_id = json.dumps(decision.compiled.rule.public_id)
        return (
            f'{{"allowed":%s,"remaining":%s,"retry_after_ms":%s,"limit":{decision.most_at_once},"window":{window},'
            f'"reset_at":%s,"algorithm":{algorithm},"rule_id":{rule_id},"reason":"%s","degraded":%s}}'
        )

    def _head_of(self, decision: Decision, joint: CompiledRule | None) -> str:
        head = JSON_HEAD.decode()
        if self._dialect == "legacy":
            head += f"X-RateLimit-Limit: {decision.most_at_once}\r\n"
            head += f"X-RateLimit-Remaining: {CUT}\r\nX-RateLimit-Reset: {CUT}\r\n"
        elif self._dialect != "off":
            policies, name = ", ".join(self._policies(decision, joint)), _policy_name(decision.compiled, decision.limit)
            head += f'RateLimit-Policy: {policies}\r\nRateLimit: "{name}";r={CUT};t={CUT}\r\n'
        return head

    def _policies(self, decision: Decision, joint: CompiledRule | None) -> list[str]:
        """draft-ietf-httpapi-ratelimit-headers-10: every limit is a policy, named by the rule and the limit's place in
        it. Of several rules, the binding limit comes first.
        """
        if decision.limit is None:
            return [f'"{_policy_name(decision.compiled, None)}";q={decision.most_at_once};w={self._default_window}']
        if not isinstance(joint, JointRule):
            return [_policy(decision.compiled, limit) for limit in decision.compiled.rule.limits]
        every = [(part, limit) for part in joint.parts for limit in part.rule.limits]
        binding = decision.compiled, decision.limit
        return [_policy(*each) for each in sorted(every, key=lambda each: each != binding)[:MAX_POLICIES]]


def _cut(text: str) -> tuple[str, ...]:
    """The parts of a template. Equal parts are interned: one object for all rules stays in the processor's caches."""
    return tuple(map(sys.intern, text.split(CUT)))


def _policy(compiled: CompiledRule, limit: Limit) -> str:
    return f'"{_policy_name(compiled, limit)}";q={limit.capacity};w={limit.window}'


def _policy_name(compiled: CompiledRule, limit: Limit | None) -> str:
    limits = compiled.rule.limits
    place = f".{limits.index(limit) + 1}" if limit and len(limits) > 1 else ""
    return f"{compiled.rule.public_id}{place}"
