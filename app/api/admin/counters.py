"""Counters: what is left, why a rule decides, and how to reset them."""

from __future__ import annotations

from typing import Any

from flask import g
from flask_smorest.pagination import PaginationParameters

from app.api.admin.counter_json import candidate_answer, counters_meant, forget, layers_answer, reading_answer
from app.api.admin.counter_schemas import (
    CounterQuerySchema,
    CounterSchema,
    ExplanationSchema,
    QuestionSchema,
    ResetSchema,
)
from app.api.admin.rules.routes import refresh
from app.api.auth import author, requires
from app.api.blueprint import StrictBlueprint
from app.api.services import services
from app.extensions import db
from app.limiter.counters import Counters, limits_of
from app.limiter.errors import NotReady
from app.rules.matching.explanation import Candidate, explain
from app.rules.matching.layered_rules import Deciding
from app.rules.rule import DEFAULT_LAYER
from app.rules.rule_book import RuleBook
from app.rules.sql.repository import RuleRepository

blueprint = StrictBlueprint("counters", __name__, url_prefix="/v1/admin", description="Counters")

MAX_CANDIDATES = 1000  # explained at a time, by precedence


@blueprint.route("/explain", methods=["GET"])
@blueprint.arguments(QuestionSchema, location="query")
@blueprint.response(200, ExplanationSchema)
@requires("rules:read")
def explain_check(question: dict[str, Any]) -> dict[str, Any]:
    """List the rules that could decide this check, those that do and why, and what is left of each. Charges nothing."""
    book, tenant_id = _book(), g.principal.tenant_id
    pace = services().pace
    disabled = RuleRepository(db.session(), pace).rules(tenant_id, enabled=False)
    candidates = explain(book, tenant_id, **question, disabled=disabled, pace=pace)
    layers = layers_answer(candidates)
    default = next(layer for layer in layers if layer["layer"] == DEFAULT_LAYER)
    counters = Counters(services().store, book, tenant_id)
    return question | {
        "rules_version": book.ruleset_id.version,
        "rule_id": default["rule_id"],
        "shadow_rule_id": default["shadow_rule_id"],
        "layers": layers,
        "candidates": _with_counters(candidates[:MAX_CANDIDATES], counters, question["client_id"]),
    }


@blueprint.route("/counters", methods=["GET"])
@blueprint.arguments(CounterQuerySchema, location="query")
@blueprint.response(200, CounterSchema(many=True))
@blueprint.paginate()
@requires("rules:read")
def list_counters(question: dict[str, Any], pagination_parameters: PaginationParameters) -> list[dict[str, Any]]:
    """List current counters: a client's own under every rule that can decide a check of it, or those that all clients
    with a `group` share, or those of a shared rule of clients.
    """
    book, wanted, tenant_id = _book(), pagination_parameters, g.principal.tenant_id
    counters = Counters(services().store, book, tenant_id)
    _, meant = counters_meant(counters, book, tenant_id, question)
    limits = limits_of(meant)
    wanted.item_count = len(limits)
    page = limits[wanted.first_item : wanted.last_item + 1]
    return [reading_answer(reading) for reading in counters.read(page)]


@blueprint.route("/counters/reset", methods=["POST"])
@blueprint.arguments(ResetSchema)
@blueprint.response(204)
@requires("rules:write")
def reset_counters(sent: dict[str, Any]) -> None:
    """Reset counters: a client's own, of all its rules or of those that decide a `limit_key`; those that all clients
    with a `group` share; or those of a shared rule of clients.
    """
    refresh()  # includes a rule that another worker has just made
    forget(db.session(), services().store, _book(), tenant_id=g.principal.tenant_id, asked=sent, by=author())
    refresh()


def _book() -> RuleBook:
    book: RuleBook | None = services().reloader.book
    if book is None:
        raise NotReady
    return book


def _with_counters(candidates: list[Candidate], counters: Counters, client_id: str) -> list[dict[str, Any]]:
    """The candidates as CandidateSchema shows them. Disabled ones get an empty list of counters."""
    counted = [
        counters.met_by(client_id, [Deciding(each.rule, each.group)] if each.rule.enabled else [])
        for each in candidates
    ]
    readings = iter(counters.read([limit for owned in counted for limit in limits_of(owned)]))
    return [
        candidate_answer(each) | {"counters": [reading_answer(next(readings)) for _ in limits_of(owned)]}
        for each, owned in zip(candidates, counted, strict=True)
    ]
