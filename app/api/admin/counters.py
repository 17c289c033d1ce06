"""Counters of a client: what is left, why a rule decides, and how to reset them."""

from __future__ import annotations

from typing import Any

from flask import g
from flask_smorest.pagination import PaginationParameters

from app.api.admin.counter_json import candidate_answer, forget, reading_answer
from app.api.admin.counter_schemas import ClientSchema, CounterSchema, ExplanationSchema, QuestionSchema, ResetSchema
from app.api.admin.rules.routes import refresh
from app.api.auth import author, requires
from app.api.blueprint import StrictBlueprint
from app.api.services import services
from app.extensions import db
from app.limiter.counters import Counters, counting
from app.limiter.errors import NotReady
from app.rules.matching.explanation import Candidate, explain
from app.rules.rule_book import RuleBook
from app.rules.sql.repository import RuleRepository

blueprint = StrictBlueprint("counters", __name__, url_prefix="/v1/admin", description="Counters")

MAX_CANDIDATES = 1000  # explained at a time, by precedence


@blueprint.route("/explain", methods=["GET"])
@blueprint.arguments(QuestionSchema, location="query")
@blueprint.response(200, ExplanationSchema)
@requires("rules:read")
def explain_check(question: dict[str, str]) -> dict[str, Any]:
    """List the rules that could decide this check, the one that does and why, and what is left of each. Charges
    nothing.
    """
    book, tenant_id = _book(), g.principal.tenant_id
    pace = services().pace
    disabled = RuleRepository(db.session(), pace).rules(tenant_id, enabled=False)
    candidates = explain(book, tenant_id, question["client_id"], question["limit_key"], disabled=disabled, pace=pace)
    winners = {candidate.rule.shadow: candidate.rule.public_id for candidate in candidates if candidate.wins}
    return question | {
        "rules_version": book.ruleset_id.version,
        "rule_id": winners.get(False),
        "shadow_rule_id": winners.get(True),
        "candidates": _with_counters(candidates[:MAX_CANDIDATES], counters_of(book, tenant_id, question["client_id"])),
    }


@blueprint.route("/counters", methods=["GET"])
@blueprint.arguments(ClientSchema, location="query")
@blueprint.response(200, CounterSchema(many=True))
@blueprint.paginate()
@requires("rules:read")
def list_counters(question: dict[str, str], pagination_parameters: PaginationParameters) -> list[dict[str, Any]]:
    """List the client's current counters: those of every rule that can decide a check of it."""
    book, wanted = _book(), pagination_parameters
    rules = counting(each.rule for each in book.candidates(g.principal.tenant_id, question["client_id"]))
    limits = [(rule, limit) for rule in rules for limit in rule.limits]
    wanted.item_count = len(limits)
    page = limits[wanted.first_item : wanted.last_item + 1]
    return [
        reading_answer(reading)
        for reading in counters_of(book, g.principal.tenant_id, question["client_id"]).read(page)
    ]


@blueprint.route("/counters/reset", methods=["POST"])
@blueprint.arguments(ResetSchema)
@blueprint.response(204)
@requires("rules:write")
def reset_counters(sent: dict[str, str]) -> None:
    """Reset the client's counters: of all its rules, or of the rule that decides this `limit_key`."""
    refresh()  # includes a rule that another worker has just made
    store, tenant_id = services().store, g.principal.tenant_id
    client_id, limit_key = sent["client_id"], sent.get("limit_key")
    forget(db.session(), store, _book(), tenant_id=tenant_id, client_id=client_id, limit_key=limit_key, by=author())
    refresh()


def counters_of(book: RuleBook, tenant_id: int, client_id: str) -> Counters:
    return Counters(services().store, book, tenant_id, client_id)


def _book() -> RuleBook:
    book: RuleBook | None = services().reloader.book
    if book is None:
        raise NotReady
    return book


def _with_counters(candidates: list[Candidate], counters: Counters) -> list[dict[str, Any]]:
    """The candidates as CandidateSchema shows them. Disabled ones get an empty list of counters."""
    counted = [counting([each.rule]) if each.rule.enabled else [] for each in candidates]
    limits = [(rule, limit) for rules in counted for rule in rules for limit in rule.limits]
    readings = iter(counters.read(limits))
    return [
        candidate_answer(each) | {"counters": [reading_answer(next(readings)) for rule in rules for _ in rule.limits]}
        for each, rules in zip(candidates, counted, strict=True)
    ]
