"""Actions on rules: the changes that block and unblock a client, and that enforce a shadow rule.

A client's rules for an endpoint precede its rule for any endpoint, so a block changes all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from app.rules.documents import Document, rule_of
from app.rules.errors import Conflict
from app.rules.rule import Rule

BLOCK = "block"
Pair = tuple[Rule | None, Rule | None]  # a rule before and after; None: no rule


class Version(NamedTuple):
    """A rule's document, and the action in its history that created it."""

    action: str
    document: Document


def blocked(client_id: str, tenant_id: int, rules: Sequence[Rule]) -> Iterator[Pair]:
    """Return the changes that block the client. `rules` are those enforced for exactly this client or pattern.

    Limits are kept for the time after the block.
    """
    if all(rule.endpoint is not None for rule in rules):
        yield None, Rule(id=-1, tenant_id=tenant_id, client_id=client_id, limits=(), action=BLOCK)
    for rule in rules:
        if rule.endpoint is None or rule.enabled:
            yield rule, replace(rule, action=BLOCK, enabled=True)


def unblocked(
    rules: Sequence[Rule], versions: Callable[[Rule], Sequence[Version]], made_to_block: str
) -> Iterator[Pair]:
    """Return the changes that restore blocking rules to their state before the block.

    A rule that was created by a block is deleted. Any other rule that has always blocked is disabled. `versions`
    returns a rule's versions, newest first. `made_to_block` is the action of versions that a block created.
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


def promoted(shadow: Rule, twin: Rule | None) -> Rule:
    """Return the enforced rule made from the shadow and its twin, the enforced rule of the same client and endpoint.

    The twin provides what the shadow leaves open: `fail_mode` and description. Raises Conflict.
    """
    if not shadow.shadow:
        raise Conflict(f"rule {shadow.id} is not a shadow rule: it is enforced already", "not-on-trial")
    if not shadow.enabled:
        raise Conflict(f"rule {shadow.id} is disabled, so it was not measured: enable it first", "not-on-trial")
    if twin is None:
        return replace(shadow, shadow=False)
    kept = {"fail_mode": shadow.fail_mode or twin.fail_mode, "description": shadow.description or twin.description}
    return replace(shadow, shadow=False, **kept)


def _as_it_was(rule: Rule, earlier: Document) -> Rule:
    """Restore action, enabled and missing limits; other changes made meanwhile stay."""
    limits = rule.limits or rule_of(earlier, rule.tenant_id).limits
    return replace(rule, action=earlier["action"], enabled=earlier["enabled"], limits=limits)
