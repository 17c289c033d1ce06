"""Rules between JSON and values: as they are sent, as they are answered, and as files hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError

from app.rules.documents import LIMIT_FIELDS, Document, document_of
from app.rules.rule import MAX_LOGGED_RATE, Limit, Rule


def rule_from(sent: Mapping[str, Any], *, tenant_id: int, default_algorithm: str) -> Rule:
    """The rule that was sent, loaded by RuleSchema. Raises ValidationError."""
    fields = dict(sent)
    limits = fields.pop("limits", None)
    first = {name: fields.pop(name, None) for name in LIMIT_FIELDS}
    if limits is None:
        limits = [first] if first["rate"] is not None else []
    for limit in limits:
        _refuse_without_algorithm(limit, default_algorithm)
    return Rule(id=-1, tenant_id=tenant_id, limits=tuple(Limit(**limit) for limit in limits), **fields)


def sendable(document: Document) -> Document:
    """The document in the form in which rules are sent: a single limit by its fields, several by `limits`."""
    fields = {name: value for name, value in document.items() if name != "limits"}
    limits = document["limits"]
    if not limits:
        return fields
    return fields | ({"limits": limits} if len(limits) > 1 else limits[0])


def answered(rule: Rule) -> Document:
    """The rule as StoredRuleSchema shows it."""
    return answered_document(document_of(rule)) | {
        "id": rule.id,
        "version": rule.version,
        "created_at": rule.created_at,
        "updated_at": rule.updated_at,
    }


def answered_document(document: Document) -> Document:
    """The document with its first limit's fields beside `limits`."""
    first = document["limits"][0] if document["limits"] else dict.fromkeys(LIMIT_FIELDS)
    return document | first


def _refuse_without_algorithm(limit: Mapping[str, Any], default_algorithm: str) -> None:
    if limit["algorithm"] is None and default_algorithm == "sliding_window" and limit["rate"] > MAX_LOGGED_RATE:
        message = f"The default algorithm is sliding_window: at most {MAX_LOGGED_RATE}. Name sliding_window_counter."
        raise ValidationError(message, "rate")
