"""Shutting a client out whatever its rules say, and letting it in again: what that changes of them.

The rules of a client for an endpoint come before its rule for any, so all of them have to block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from app.rules.documents import Document, rule_of
from app.rules.rule import Rule

BLOCK = "block"
Pair = tuple[Rule | None, Rule | None]  # a rule before and after; None: there is none


class Version(NamedTuple):
    """What a rule was, and by which action of the history it came to be so."""

    action: str
    document: Document


def blocked(client_id: str, tenant_id: int, rules: Sequence[Rule]) -> Iterator[Pair]:
    """`rules`: those enforced for exactly this client or pattern. Limits are kept for the day the block ends."""
    if all(rule.endpoint is not None for rule in rules):
        yield None, Rule(id=-1, tenant_id=tenant_id, client_id=client_id, limits=(), action=BLOCK)
    for rule in rules:
        if rule.endpoint is None or rule.enabled:
            yield rule, replace(rule, action=BLOCK, enabled=True)


def unblocked(
    rules: Sequence[Rule], versions: Callable[[Rule], Sequence[Version]], made_to_block: str
) -> Iterator[Pair]:
    """Of the rules those that block become what they were before; one that was made to block goes, any other that has
    never done anything else is disabled.

    `versions`: of a rule, newest first; `made_to_block`: the action of a version that a block has made.
    """
    for rule in rules:
        if rule.action != BLOCK or not rule.enabled:
            continue
        known = versions(rule)
        earlier = next((version.document for version in known if version.document["action"] != BLOCK), None)
        if earlier is not None:
            yield rule, _as_it_was(rule, earlier)
        elif known and known[-1].action == made_to_block:
            yield rule, None
        else:
            yield rule, replace(rule, enabled=False)


def _as_it_was(rule: Rule, earlier: Document) -> Rule:
    """What was changed of it meanwhile stays changed."""
    limits = rule.limits or rule_of(earlier, rule.tenant_id).limits
    return replace(rule, action=earlier["action"], enabled=earlier["enabled"], limits=limits)
