"""Counters: their JSON, and their reset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from marshmallow import ValidationError

from app.limiter.counters import Counters, Reading
from app.limiter.joint.matches import Owned
from app.limiter.store import CounterStore
from app.rules.errors import NotFound
from app.rules.matching.explanation import Candidate
from app.rules.rule import DEFAULT_LAYER, Rule
from app.rules.rule_book import RuleBook
from app.rules.sql.database.transactions import versioned_transaction
from app.rules.sql.history import Author, History


def reading_answer(reading: Reading) -> dict[str, Any]:
    """The reading as CounterSchema shows it."""
    limit = reading.limit
    return _of_rule(reading.rule) | {
        "rate": limit.rate,
        "window": limit.window,
        "algorithm": limit.algorithm,
        "limit": limit.capacity,
        "remaining": reading.remaining,
        "reset_at": reading.reset_at,
    }


def candidate_answer(candidate: Candidate) -> dict[str, Any]:
    """The candidate as CandidateSchema shows it, without its counters."""
    rule = candidate.rule
    return _of_rule(rule) | {
        "action": rule.action,
        "enabled": rule.enabled,
        "wins": candidate.wins,
        "why": candidate.why,
        "hidden_by": candidate.hidden_by and candidate.hidden_by.public_id,
    }


def layers_answer(candidates: Iterable[Candidate]) -> list[dict[str, Any]]:
    """The layers that decide, default first, then by name."""
    winners = {
        (candidate.rule.layer, candidate.rule.shadow): candidate.rule.public_id
        for candidate in candidates
        if candidate.wins
    }
    names = sorted({layer for layer, _ in winners}, key=lambda layer: (layer != DEFAULT_LAYER, layer))
    return [
        {"layer": layer, "rule_id": winners.get((layer, False)), "shadow_rule_id": winners.get((layer, True))}
        for layer in names
    ]


def _of_rule(rule: Rule) -> dict[str, Any]:
    return {
        "rule_id": rule.public_id,
        "client_id": rule.client_id if rule.group is None else None,
        "group": rule.group,
        "layer": rule.layer,
        "shared": rule.shared,
        "endpoint": rule.endpoint,
        "shadow": rule.shadow,
    }


def counters_meant(
    counters: Counters, book: RuleBook, tenant_id: int, asked: Mapping[str, Any]
) -> tuple[str, list[Owned]]:
    """The subject of a valid query or reset, and its counters. Raises NotFound, and ValidationError for a rule whose
    counters are not shared by its clients.
    """
    if "client_id" in asked:
        client_id = asked["client_id"]
        return f"client {client_id}", counters.own(client_id, asked["groups"], asked.get("limit_key"))
    if "group" in asked:
        return f"group {asked['group']}", counters.of_group(asked["group"])
    rule = book.rule(tenant_id, asked["rule_id"])
    if rule is None:
        raise NotFound(f"there is no rule {asked['rule_id']}")
    if rule.group is not None or not rule.shared:
        raise ValidationError("Allowed is a shared rule of clients: others are found by client_id or group.", "rule_id")
    return f"rule {rule.id}", counters.of_rule(rule)


def forget(
    session: Any, store: CounterStore, book: RuleBook, *, tenant_id: int, asked: Mapping[str, Any], by: Author
) -> tuple[str, int]:
    """Delete the counters that `asked` means. Returns the subject, and their number at most.

    `asked` is loaded by ResetSchema. A new version of the rules is committed once the counters are gone. It makes every
    worker drop its cached denials. Raises as `counters_meant`.
    """
    counters = Counters(store, book, tenant_id)
    subject, found = counters_meant(counters, book, tenant_id, asked)
    with versioned_transaction(session, tenant_id):
        count = counters.forget(found)
        after = {"limit_key": asked.get("limit_key"), "counters": count}
        if asked["groups"] is not None:
            after["groups"] = list(asked["groups"])
        History(session, tenant_id).note(by, "counters.reset", subject, after=after)
    return subject, count
