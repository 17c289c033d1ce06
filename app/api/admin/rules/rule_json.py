"""Rules between JSON and values: in requests, in answers and in files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import starmap
from typing import Any

from marshmallow import ValidationError

from app.api.admin.rules.schemas import possible_client, possible_group, refuse_impossible, schema_of_stored
from app.rules.documents import ADDED, LIMIT_FIELDS, OWNER, Document, differences, document_of
from app.rules.rule import MAX_LOGGED_RATE, Limit, Rule
from app.rules.sql.merge import Merge
from app.rules.sql.models import RuleVersionRow
from app.rules.sync.yielding import Pace, unpaced

NO_LIMIT: Document = dict.fromkeys(LIMIT_FIELDS)
BOTH = "Give either limits or rate and window, not both with different values."


def rule_from(sent: Mapping[str, Any], *, tenant_id: int, default_algorithm: str, stored: Rule | None = None) -> Rule:
    """The rule that was sent, loaded by RuleSchema, as the replacement of `stored`. Raises ValidationError."""
    fields = {name: value for name, value in sent.items() if name not in ("limits", *LIMIT_FIELDS)}
    fields["client_id"] = sent.get("client_id") or ""
    if stored is not None and fields["client_id"] not in ("", stored.client_id):
        possible_client(fields["client_id"])
    if stored is not None and fields["group"] not in (None, stored.group):
        possible_group(fields["group"])
    limits = _limits(sent, document_of(stored)["limits"] if stored else None)
    for limit in limits:
        _refuse_without_algorithm(limit, default_algorithm)
    return Rule(id=-1, tenant_id=tenant_id, limits=tuple(Limit(**limit) for limit in limits), **fields)


def sendable(document: Document) -> Document:
    """The document as requests have it: a single limit by its fields, several by `limits`."""
    fields = {name: value for name, value in document.items() if name != "limits"}
    limits = document["limits"]
    if not limits:
        return fields
    return fields | ({"limits": limits} if len(limits) > 1 else limits[0])


def rule_answer(rule: Rule) -> Document:
    """The rule as StoredRuleSchema shows it."""
    return document_answer(document_of(rule)) | {
        "id": rule.id,
        "version": rule.version,
        "created_at": rule.created_at,
        "updated_at": rule.updated_at,
    }


def document_answer(document: Document) -> Document:
    """The document with the first limit's fields beside `limits`."""
    first = document["limits"][0] if document["limits"] else NO_LIMIT
    return ADDED | document | first


def patched(current: Rule, sent: dict[str, Any]) -> dict[str, Any]:
    """`current` with the fields of `sent`, as RuleSchema loads it. Raises ValidationError.

    A rate, window, algorithm or burst alone is that of the first limit; the others stay. A client replaces the group,
    and a group the client.
    """
    base = sendable(document_of(current))
    if any(sent.get(name) is not None for name in OWNER):
        base |= dict.fromkeys(OWNER)
    beside = {name: sent[name] for name in LIMIT_FIELDS if name in sent}
    if "limits" in sent:
        base = {name: value for name, value in base.items() if name not in LIMIT_FIELDS}
    elif "limits" in base and beside:  # of several limits these fields are the first one's, as in answers
        first, *others = base["limits"]
        base["limits"] = [first | beside, *others]
        sent = {name: value for name, value in sent.items() if name not in beside}
    loaded: dict[str, Any] = schema_of_stored().load(base | sent)
    return loaded


def version_answers(newest_first: list[RuleVersionRow]) -> list[dict[str, Any]]:
    """The versions, each with its changes against the next older one."""
    older: list[RuleVersionRow | None] = [*newest_first[1:], None]
    # Lengths differ if there are no versions: `older` is still [None].
    return [_version(*pair) for pair in zip(newest_first, older, strict=False)]


def merge_answer(merge: Merge) -> dict[str, list[dict[str, Any]]]:
    """The changes of a merge, rule by rule."""
    return {name: list(rules) for name, rules in merge_answer_lists(merge, unpaced)}


def merge_answer_lists(merge: Merge, pace: Pace) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
    """As `merge_answer`, a list and a rule at a time."""
    pairs: dict[str, Iterable[tuple[Rule | None, Rule | None]]] = {
        "created": ((None, rule) for rule in merge.created),
        "replaced": merge.replaced,
        "deleted": ((rule, None) for rule in merge.deleted),
        "unchanged": ((rule, rule) for rule in merge.unchanged),
    }
    return ((name, starmap(_changed, pace(before_and_after))) for name, before_and_after in pairs.items())


def _limits(sent: Mapping[str, Any], stored: list[Document] | None) -> list[Document]:
    """The limits that were sent: by `limits`, by the fields of a single one, or by both, as answers have them."""
    limits: list[Document] = sent.get("limits", [])
    beside = {name: sent[name] for name in LIMIT_FIELDS if name in sent}
    if not limits:
        return [NO_LIMIT | beside] if beside.get("rate") is not None else []
    first = limits[0] | beside
    if first == limits[0]:
        return limits
    if stored is not None:
        known = stored[0] if stored else NO_LIMIT
        if known | beside == known:  # the fields beside are unchanged, so `limits` was changed
            return limits
        if limits == stored and len(limits) == 1 and None not in (first["rate"], first["window"]):
            refuse_impossible(first)
            return [first]
    differing = [name for name in beside if first[name] != limits[0][name]]
    raise ValidationError({name: [BOTH] for name in ("limits", *differing)})


def _refuse_without_algorithm(limit: Mapping[str, Any], default_algorithm: str) -> None:
    if limit["algorithm"] is None and default_algorithm == "sliding_window" and limit["rate"] > MAX_LOGGED_RATE:
        message = f"The default algorithm is sliding_window: at most {MAX_LOGGED_RATE}. Name sliding_window_counter."
        raise ValidationError(message, "rate")


def _version(row: RuleVersionRow, older: RuleVersionRow | None) -> dict[str, Any]:
    return document_answer(row.document) | {
        "id": row.rule_id,
        "version": row.version,
        "updated_at": row.created_at,
        "actor": row.actor,
        "change": row.action,
        "changes": differences(older.document, row.document) if older else None,
    }


def _changed(before: Rule | None, after: Rule | None) -> dict[str, Any]:
    rule = after or before
    assert rule is not None  # noqa: S101 - one of the two is there
    nothing: Document = {"limits": []}
    return {
        "id": rule.id if rule.id > 0 else before and before.id,
        "client_id": rule.client_id or None,
        "group": rule.group,
        "layer": rule.layer,
        "endpoint": rule.endpoint,
        "shadow": rule.shadow,
        "changes": differences(document_of(before) if before else nothing, document_of(after) if after else nothing),
    }
