"""Rules for operators: create, replace, edit, list, delete, and their versions. Each tenant sees its own."""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import partial
from typing import Any

from flask import Response, g, url_for
from flask_smorest.pagination import PaginationParameters

from app.api.admin.rules.request_schemas import (
    RollbackSchema,
    RuleDeletionSchema,
    RuleFilterSchema,
    RulePatchSchema,
    RuleVersionSchema,
)
from app.api.admin.rules.rule_json import patched, rule_answer, rule_from, version_answers
from app.api.admin.rules.rule_warnings import if_readable, warnings_of
from app.api.admin.rules.schemas import RuleAnswerSchema, RuleSchema, Sent, StoredRuleSchema, schema_of_stored
from app.api.auth import author, requires
from app.api.etags import Precondition, conditional, with_etag
from app.api.services import services
from app.api.strict_blueprint import StrictBlueprint, paged
from app.extensions import db
from app.rules.documents import LIMIT_FIELDS
from app.rules.errors import NotFound
from app.rules.rule import DEFAULT_LAYER, Rule
from app.rules.sql.changes import RuleChanges
from app.rules.sql.history import REPLACE, History
from app.rules.sql.repository import IDENTIFYING, RuleRepository, in_one_state

blueprint = StrictBlueprint("admin", __name__, description="Rules")

RuleResponse = tuple[dict[str, Any], int, dict[str, str]]
RULE = "/v1/admin/rules/<int:rule_id>"
PATIENCE_SECONDS = 0.4  # longest wait for changes of others; 10,000 take a worker up to a second on a busy machine


@blueprint.route("/v1/admin/rules", methods=["POST"])
@blueprint.arguments(RuleSchema)
@blueprint.response(201, RuleAnswerSchema)
@blueprint.alt_response(200, schema=RuleAnswerSchema, success=True)
@conditional
@requires("rules:write")
def put_rule(sent: Sent) -> RuleResponse:
    """Create the rule (201), or replace the one of the same layer, client or group, endpoint and shadow (200)."""
    precondition = Precondition()
    stored, created = changes().put(as_rule(sent, _named(sent)), precondition)
    body, status, headers = changed(stored, precondition.before, named=sent.names)
    if created:
        status, headers["Location"] = 201, url_for("admin.get_rule", rule_id=stored.id)
    return body, status, headers


@blueprint.route("/v1/admin/rules", methods=["GET"])
@blueprint.arguments(RuleFilterSchema, location="query")
@blueprint.response(200, StoredRuleSchema(many=True))
@blueprint.paginate()
@requires("rules:read")
def list_rules(filters: dict[str, Any], pagination_parameters: PaginationParameters) -> list[dict[str, Any]]:
    """List the rules of the tenant, oldest first."""
    rules = paged(pagination_parameters, partial(_repository().page, g.principal.tenant_id, filters))
    return [rule_answer(rule) for rule in rules]


@blueprint.route(RULE, methods=["GET"])
@blueprint.response(200, RuleAnswerSchema)
@requires("rules:read")
def get_rule(rule_id: int) -> RuleResponse:
    """Show one rule."""
    rule = _own(rule_id)
    return with_etag(rule, _with_warnings(rule, warnings_of(rule, None, _repository())))


@blueprint.route(RULE, methods=["PUT"])
@blueprint.arguments(schema_of_stored())
@blueprint.response(200, RuleAnswerSchema)
@conditional
@requires("rules:write")
def replace_rule(sent: dict[str, Any], rule_id: int) -> RuleResponse:
    """Replace the rule: fields that are not sent get their defaults, not the old values."""
    precondition = Precondition()
    stored = changes().edit(rule_id, lambda stored: as_rule(sent, stored), precondition, REPLACE)
    return changed(stored, precondition.before)


@blueprint.route(RULE, methods=["PATCH"])
@blueprint.arguments(RulePatchSchema)
@blueprint.response(200, RuleAnswerSchema)
@conditional
@requires("rules:write")
def patch_rule(sent: dict[str, Any], rule_id: int) -> RuleResponse:
    """Change the fields that are sent, and keep the others."""
    precondition = Precondition()
    stored = changes().edit(rule_id, lambda stored: as_rule(patched(stored, sent), stored), precondition)
    return changed(stored, precondition.before)


@blueprint.route(RULE, methods=["DELETE"])
@blueprint.arguments(RuleDeletionSchema, location="query")
@blueprint.response(204)
@blueprint.alt_response(200, schema=RuleAnswerSchema, success=True)
@conditional
@requires("rules:write")
def delete_rule(sent: dict[str, bool], rule_id: int) -> RuleResponse | None:
    """Delete the rule and its versions. `dry_run=true` deletes nothing, and names the rules that would decide instead.

    Its counters are never read again and expire by themselves.
    """
    if sent["dry_run"]:
        rule = _own(rule_id)
        # The schema of 204 is none, so that nothing else turns the times into text.
        return with_etag(rule, RuleAnswerSchema().dump(_with_warnings(rule, warnings_of(None, rule, _repository()))))
    changes().delete(rule_id, Precondition())
    refresh()
    return None


@blueprint.route(f"{RULE}/versions", methods=["GET"])
@blueprint.response(200, RuleVersionSchema(many=True))
@blueprint.paginate()
@requires("rules:read")
def list_versions(rule_id: int, pagination_parameters: PaginationParameters) -> list[dict[str, Any]]:
    """List the versions of the rule, newest first, each with its changes."""
    wanted, rule = pagination_parameters, _own(rule_id)
    history = History(db.session(), rule.tenant_id)
    # One more than the page: the changes of its last version are differences from the next older one.
    rows, wanted.item_count = history.versions(rule_id, wanted.first_item, wanted.page_size + 1)
    return version_answers(rows)[: wanted.page_size]


@blueprint.route(f"{RULE}/rollback", methods=["POST"])
@blueprint.arguments(RollbackSchema)
@blueprint.response(200, RuleAnswerSchema)
@conditional
@requires("rules:write")
def roll_back_rule(sent: dict[str, int], rule_id: int) -> RuleResponse:
    """Restore the rule as it was at a version, as a new version."""
    precondition = Precondition()
    stored = changes().roll_back(rule_id, sent["version"], precondition)
    return changed(stored, precondition.before)


@blueprint.route("/rules", methods=["GET"])
@blueprint.response(200, {"type": "object", "additionalProperties": {"type": "object"}})
@requires("rules:read")
def rules() -> Response:
    """Show the enforced rules of the tenant in the short form: client -> rate, window and endpoints.

    Rules for groups and rules of other layers than default are left out.
    """
    wired = services()
    settings, pace = wired.settings, wired.pace
    table: dict[str, dict[str, Any]] = {"default": {"rate": settings.default_rate, "window": settings.default_window}}
    for rule in pace(own_rules()):
        if rule.enabled and not rule.shadow and rule.group is None and rule.layer == DEFAULT_LAYER:
            entry = table.setdefault("default" if rule.client_id == "*" else rule.client_id, {})
            if rule.endpoint is None:
                entry.update(_short(rule))
            else:
                entry.setdefault("endpoints", {})[rule.endpoint] = _short(rule)
    members = (f"{json.dumps(client)}:{json.dumps(entry)}" for client, entry in pace(table.items()))
    return Response(f"{{{','.join(members)}}}\n", content_type="application/json")


def own_rules() -> list[Rule]:
    """All rules of the caller's tenant, read in a transaction that has ended on return."""
    session, pace = in_one_state(db.session()), services().pace
    rules = RuleRepository(session, pace).rules(g.principal.tenant_id)
    session.rollback()
    return rules


def changes() -> RuleChanges:
    """Changes to the rules of the caller's tenant; the caller is their author."""
    pace = services().pace
    return RuleChanges(db.session(), g.principal.tenant_id, author(), pace)


def as_rule(sent: dict[str, Any], stored: Rule | None = None) -> Rule:
    """The rule that was sent, in the caller's tenant, as the replacement of `stored`."""
    algorithm = services().settings.algorithm
    return rule_from(sent, tenant_id=g.principal.tenant_id, default_algorithm=algorithm, stored=stored)


def changed(rule: Rule, before: Rule | None, *, named: Collection[str] | None = None) -> RuleResponse:
    """The answer to a change. `named`: the fields that were sent, where the others got their defaults."""
    refresh()
    warnings = if_readable(lambda: warnings_of(rule, before, _repository(), named=named)) or []
    return with_etag(rule, _with_warnings(rule, warnings))


def refresh() -> None:
    """Make this worker apply a change before it answers. The other workers follow by themselves. So does this one if it
    is reading many other changes: an emergency block is answered within a second.
    """
    services().reloader.refresh(PATIENCE_SECONDS)


def _repository() -> RuleRepository:
    return RuleRepository(db.session())


def _own(rule_id: int) -> Rule:
    rule = _repository().get(g.principal.tenant_id, rule_id)
    if rule is None:
        raise NotFound(f"there is no rule {rule_id}")
    return rule


def _with_warnings(rule: Rule, warnings: list[str]) -> dict[str, Any]:
    return rule_answer(rule) | ({"warnings": warnings} if warnings else {})


def _named(sent: dict[str, Any]) -> Rule | None:
    """The stored rule if an answer was sent back: only answers have `limits` together with the first limit's fields."""
    if not sent.get("limits") or not sent.keys() & set(LIMIT_FIELDS):
        return None
    identity = {name: sent[name] for name in IDENTIFYING}
    return next(iter(_repository().rules(g.principal.tenant_id, **identity)), None)


def _short(rule: Rule) -> dict[str, Any]:
    if rule.action != "limit":
        return {"action": rule.action}
    return {"rate": rule.limits[0].rate, "window": rule.limits[0].window}
