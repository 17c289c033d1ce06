"""Rules as plain data: the form in versions, audit and templates, and the differences of two such documents."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from app.rules.rule import DEFAULT_LAYER, Limit, Rule

Document = dict[str, Any]

OWNER = ("client_id", "group")  # one of the two is null
FIELDS = (*OWNER, "layer", "shared", "endpoint", "action", "fail_mode", "shadow", "enabled", "description")
# Documents of earlier releases lack these fields.
ADDED: Document = {"group": None, "layer": DEFAULT_LAYER, "shared": False}
LIMIT_FIELDS = ("rate", "window", "algorithm", "burst")


def document_of(rule: Rule) -> Document:
    """Return the fields that an operator can set, without id, version, times and counters."""
    limits = [{name: getattr(limit, name) for name in LIMIT_FIELDS} for limit in rule.limits]
    return {name: getattr(rule, name) for name in FIELDS} | {"client_id": rule.client_id or None, "limits": limits}


def rule_of(document: Mapping[str, Any], tenant_id: int) -> Rule:
    """Return the rule that a document describes; it is not stored yet. Fields that it lacks have defaults."""
    limits = tuple(Limit(**limit) for limit in document["limits"])
    fields = {name: document[name] for name in FIELDS if name in document}
    fields["client_id"] = fields.get("client_id") or ""
    return Rule(id=-1, tenant_id=tenant_id, limits=limits, **fields)


def without_owner(document: Document) -> Document:
    """Return the document without its client or group, as templates have it."""
    return {name: value for name, value in document.items() if name not in OWNER}


def differences(before: Document, after: Document) -> Document:
    """Return field -> {"from", "to"}.

    A single limit's fields have plain names, several limits' have `limits[0].rate`.
    """
    several = max(len(before["limits"]), len(after["limits"])) > 1
    old, new = _flat(before, several), _flat(after, several)
    return {
        name: {"from": old.get(name), "to": new.get(name)}
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    }


def lost(before: Document, after: Document, named: Collection[str]) -> Document:
    """Return the differences in fields that are not `named`. `limits` covers all limits, `rate` etc. the first one."""
    everything = "limits" in named

    def is_named(field: str) -> bool:
        of_a_limit = field.startswith("limits[") or field in LIMIT_FIELDS
        return (everything and of_a_limit) or field.removeprefix("limits[0].") in named

    return {field: change for field, change in differences(before, after).items() if not is_named(field)}


def _flat(document: Document, several: bool) -> Document:
    flat = {name: document.get(name, ADDED.get(name)) for name in FIELDS}
    for place, limit in enumerate(document["limits"]):
        flat |= {f"limits[{place}].{name}" if several else name: limit[name] for name in LIMIT_FIELDS}
    return flat
