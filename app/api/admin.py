"""Rules for operators: create, replace, list, delete. Each tenant sees its own."""

from __future__ import annotations

from typing import Any

from flask import Response, current_app, g, jsonify
from flask_smorest import Blueprint

from app.api.arguments import StrictParser
from app.api.auth import requires
from app.api.problems import Problem
from app.api.schemas import FilterSchema, RuleSchema, StoredRuleSchema
from app.extensions import db
from app.rules import changes
from app.rules.repository import RuleRepository
from app.rules.rule import MAX_LOGGED_RATE, Limit, Rule

blueprint = Blueprint("admin", __name__, description="Rules")
blueprint.ARGUMENTS_PARSER = StrictParser()


@blueprint.route("/v1/admin/rules", methods=["POST"])
@blueprint.arguments(RuleSchema)
@blueprint.response(201, StoredRuleSchema)
@blueprint.alt_response(200, schema=StoredRuleSchema, success=True)
@requires("rules:write")
def put_rule(sent: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Create the rule (201), or replace the one of the same client and endpoint (200)."""
    stored, created = changes.put_rule(db.session(), _as_rule(sent))
    current_app.extensions["ratelimiter"].reloader.refresh()
    return _as_stored(stored), 201 if created else 200


@blueprint.route("/v1/admin/rules", methods=["GET"])
@blueprint.arguments(FilterSchema, location="query")
@blueprint.response(200, StoredRuleSchema(many=True))
@requires("rules:read")
def list_rules(filters: dict[str, str]) -> list[dict[str, Any]]:
    """All rules of the tenant, oldest first."""
    stored = [_as_stored(rule) for rule in RuleRepository(db.session()).rules(g.principal.tenant_id)]
    return [rule for rule in stored if filters.items() <= {name: rule[name] for name in filters}.items()]


@blueprint.route("/v1/admin/rules/<int:rule_id>", methods=["GET"])
@blueprint.response(200, StoredRuleSchema)
@requires("rules:read")
def get_rule(rule_id: int) -> dict[str, Any]:
    """One rule."""
    rule = RuleRepository(db.session()).get(g.principal.tenant_id, rule_id)
    if rule is None:
        raise _no_rule(rule_id)
    return _as_stored(rule)


@blueprint.route("/v1/admin/rules/<int:rule_id>", methods=["DELETE"])
@blueprint.response(204)
@requires("rules:write")
def delete_rule(rule_id: int) -> None:
    """Delete the rule. Its counters are never read again and expire by themselves."""
    if not changes.delete_rule(db.session(), g.principal.tenant_id, rule_id):
        raise _no_rule(rule_id)
    current_app.extensions["ratelimiter"].reloader.refresh()


@blueprint.route("/rules", methods=["GET"])
@blueprint.response(200, {"type": "object", "additionalProperties": {"type": "object"}})
@requires("rules:read")
def rules() -> Response:
    """The enforced rules of the tenant in the short form: client -> rate, window and endpoints."""
    settings = current_app.extensions["ratelimiter"].settings
    table: dict[str, dict[str, Any]] = {"default": {"rate": settings.default_rate, "window": settings.default_window}}
    for rule in RuleRepository(db.session()).rules(g.principal.tenant_id):
        if rule.enabled and not rule.shadow:
            entry = table.setdefault("default" if rule.client_id == "*" else rule.client_id, {})
            if rule.endpoint is None:
                entry.update(_short(rule))
            else:
                entry.setdefault("endpoints", {})[rule.endpoint] = _short(rule)
    return jsonify(table)


def _as_rule(sent: dict[str, Any]) -> Rule:
    """The rule that was sent, in the caller's tenant."""
    limits = sent.pop("limits", None)
    first = {name: sent.pop(name, None) for name in ("rate", "window", "algorithm", "burst")}
    if limits is None:
        limits = [first] if first["rate"] is not None else []
    rule = Rule(id=-1, tenant_id=g.principal.tenant_id, limits=tuple(Limit(**limit) for limit in limits), **sent)
    for limit in rule.limits:
        _refuse_without_algorithm(limit)
    return rule


def _refuse_without_algorithm(limit: Limit) -> None:
    default = current_app.extensions["ratelimiter"].settings.algorithm
    if limit.algorithm is None and default == "sliding_window" and limit.rate > MAX_LOGGED_RATE:
        messages = [f"The default algorithm is sliding_window: at most {MAX_LOGGED_RATE}. Name sliding_window_counter."]
        raise Problem(422, "the request is not valid", errors={"rate": messages})


def _as_stored(rule: Rule) -> dict[str, Any]:
    first = rule.limits[0] if rule.limits else None
    return {
        **{name: getattr(rule, name) for name in StoredRuleSchema().fields if hasattr(rule, name)},
        "rate": first and first.rate,
        "window": first and first.window,
        "algorithm": first and first.algorithm,
        "burst": first and first.burst,
    }


def _short(rule: Rule) -> dict[str, Any]:
    if rule.action != "limit":
        return {"action": rule.action}
    return {"rate": rule.limits[0].rate, "window": rule.limits[0].window}


def _no_rule(rule_id: int) -> Problem:
    return Problem(404, f"there is no rule {rule_id}")
