"""Warnings about side effects of a change: rules that no longer decide, and fields that were reset without being
sent.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Collection
from typing import TypeVar

from app.rules.documents import document_of, lost
from app.rules.matching import hidden_rules
from app.rules.matching.explanation import deciding
from app.rules.matching.rule_overlap import is_wide
from app.rules.rule import DEFAULT_LAYER, Rule
from app.rules.sql.database.engine import DATABASE_ERRORS
from app.rules.sql.merge import Merge
from app.rules.sql.repository import RuleRepository
from app.rules.sync.yielding import Pace, unpaced

T = TypeVar("T")

log = logging.getLogger(__name__)


def if_readable(read: Callable[[], T]) -> T | None:
    """Warnings about a durable change. None, with a log line, if the database fails meanwhile."""
    try:
        return read()
    except DATABASE_ERRORS as error:
        log.warning("rules were changed, but their warnings could not be computed: %s", str(error).splitlines()[0])
        return None


def warnings_of(
    rule: Rule | None, before: Rule | None, rules: RuleRepository, *, named: Collection[str] | None = None
) -> list[str]:
    """Warnings about a rule in its present and its previous state; None: it does not, or did not, exist.

    `named`: the fields that were sent, where others got their defaults.
    """
    changed, was = _one(rule), _one(before)
    around = {other.id: other for each in changed + was for other in rules.beside(each) if each.id != other.id}
    warnings = hidden_rules.warnings(changed, around.values(), before=was)
    if rule is not None and before is not None and named is not None:
        goes = lost(document_of(before), document_of(rule), named)
        warnings += [
            f"{field} was not sent: {json.dumps(change['from'])} became {json.dumps(change['to'])}"
            for field, change in goes.items()
        ]
    return warnings


def warnings_of_merge(merge: Merge, pace: Pace = unpaced) -> list[str]:
    """Warnings about several rules changed at once. Takes up to half a second."""
    changed = [*merge.created, *(after for _, after in pace(merge.replaced))]
    before = [*merge.deleted, *(before for before, _ in pace(merge.replaced))]
    return hidden_rules.warnings(changed, [*merge.unchanged, *merge.others], before=before, pace=pace)


def warnings_of_block(client_id: str, tenant_id: int, rules: RuleRepository) -> list[str]:
    """Warnings after a client or pattern was blocked or unblocked: other rules that decide the opposite."""
    own = rules.rules(tenant_id, client_id=client_id, layer=DEFAULT_LAYER, endpoint=None, shadow=False)
    if any(rule.action == "block" and rule.enabled for rule in own):
        return warnings_of(own[0], None, rules)
    if is_wide(client_id):
        return []
    layers = defaultdict[str, list[Rule]](list)
    for rule in rules.of_client(tenant_id, client_id):
        if rule.group is None:
            layers[rule.layer].append(rule)
    still = (rule for of_layer in layers.values() for rule in deciding(of_layer, client_id))
    return [f"{hidden_rules.described(rule)} still blocks it" for rule in still if rule.action == "block"]


def _one(rule: Rule | None) -> list[Rule]:
    return [] if rule is None else [rule]
