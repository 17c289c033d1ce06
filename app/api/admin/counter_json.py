"""Counters of a client: their JSON, and their reset."""

from __future__ import annotations

from typing import Any

from app.limiter.counters import Counters, Reading
from app.limiter.store import CounterStore
from app.rules.matching.explanation import Candidate
from app.rules.rule_book import RuleBook
from app.rules.sql.database.transactions import versioned_transaction
from app.rules.sql.history import Author, History


def reading_answer(reading: Reading) -> dict[str, Any]:
    """The reading as CounterSchema shows it."""
    rule, limit = reading.rule, reading.limit
    return {
        "rule_id": rule.public_id,
        "client_id": rule.client_id,
        "endpoint": rule.endpoint,
        "shadow": rule.shadow,
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
    return {
        "rule_id": rule.public_id,
        "client_id": rule.client_id,
        "endpoint": rule.endpoint,
        "action": rule.action,
        "shadow": rule.shadow,
        "enabled": rule.enabled,
        "wins": candidate.wins,
        "why": candidate.why,
        "hidden_by": candidate.hidden_by and candidate.hidden_by.public_id,
    }


def forget(
    session: Any,
    store: CounterStore,
    book: RuleBook,
    *,
    tenant_id: int,
    client_id: str,
    limit_key: str | None,
    by: Author,
) -> int:
    """Delete the client's counters: of all candidates, or of the rule that decides `limit_key`. Returns their number at
    most.

    A new version of the rules is committed once the counters are gone. It makes every worker drop its cached denials.
    """
    if limit_key is None:
        rules = [each.rule for each in book.candidates(tenant_id, client_id)]
    else:
        rules = [book.match(tenant_id, client_id, limit_key)]
    with versioned_transaction(session, tenant_id):
        count = Counters(store, book, tenant_id, client_id).forget(rules)
        after = {"limit_key": limit_key, "counters": count}
        History(session, tenant_id).note(by, "counters.reset", f"client {client_id}", after=after)
    return count
