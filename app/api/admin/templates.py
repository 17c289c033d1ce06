"""Templates, and their application to a client, a group or a pattern."""

from __future__ import annotations

from typing import Any

from flask import g
from flask_smorest import Page

from app.api.admin.rules.routes import as_rule, changes, refresh
from app.api.admin.rules.rule_json import document_answer, rule_answer
from app.api.admin.rules.rule_warnings import if_readable, warnings_of
from app.api.admin.rules.schemas import RuleAnswerSchema
from app.api.admin.template_schemas import ApplicationSchema, StoredTemplateSchema, TemplateSchema
from app.api.auth import author, requires
from app.api.blueprint import StrictBlueprint, name_in_path
from app.api.etags import Precondition, conditional
from app.extensions import db
from app.rules.documents import Document, document_of, without_owner
from app.rules.sql.repository import RuleRepository
from app.rules.sql.templates import Template, Templates

blueprint = StrictBlueprint("templates", __name__, url_prefix="/v1/admin/templates", description="Templates")


@blueprint.route("", methods=["GET"])
@blueprint.response(200, StoredTemplateSchema(many=True))
@blueprint.paginate(Page)
@requires("rules:read")
def list_templates() -> list[dict[str, Any]]:
    """List built-in templates, then the tenant's own."""
    return [_template_answer(template) for template in _templates().all()]


@blueprint.route("", methods=["POST"])
@blueprint.arguments(TemplateSchema)
@blueprint.response(201, StoredTemplateSchema)
@blueprint.alt_response(200, schema=StoredTemplateSchema, success=True)
@conditional
@requires("rules:write")
def put_template(sent: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Create a template (201), or replace the tenant's own with that name (200). Rules made from it stay as they
    are.
    """
    name, description = sent.pop("name"), sent.pop("description")
    rules = sent.pop("rules", None) or [sent]
    template = Template(name, description, tuple(_document(rule) for rule in rules))
    return _template_answer(template), 201 if _templates().put(template, author(), Precondition().holds_of_any) else 200


@blueprint.route("/<name>", methods=["DELETE"])
@blueprint.response(204)
@requires("rules:write")
def delete_template(name: str) -> None:
    """Delete one of the tenant's own templates. Rules made from it stay."""
    _templates().delete(name_in_path(name), author())


@blueprint.route("/<name>/apply", methods=["POST"])
@blueprint.arguments(ApplicationSchema)
@blueprint.response(200, RuleAnswerSchema(many=True))
@conditional
@requires("rules:write")
def apply_template(sent: dict[str, str | None], name: str) -> list[dict[str, Any]]:
    """Create or replace the template's rules, for a client, a group or a pattern. All or none."""
    template = _templates().get(name_in_path(name))
    wanted = template.rules_for(sent, g.principal.tenant_id)
    merge = changes().merge(wanted, expected=Precondition())
    refresh()
    rules = (*merge.created, *(new for _, new in merge.replaced), *merge.unchanged)
    repository = RuleRepository(db.session())
    warnings: dict[int, list[str]] = (
        if_readable(lambda: {rule.id: warnings_of(rule, None, repository) for rule in rules}) or {}
    )
    return [rule_answer(rule) | ({"warnings": warnings[rule.id]} if warnings.get(rule.id) else {}) for rule in rules]


def _templates() -> Templates:
    return Templates(db.session(), g.principal.tenant_id)


def _document(sent: dict[str, Any]) -> Document:
    return without_owner(document_of(as_rule(sent)))


def _template_answer(template: Template) -> dict[str, Any]:
    return {
        "name": template.name,
        "description": template.description,
        "builtin": template.builtin,
        "rules": [document_answer(document) for document in template.rules],
    }
