"""`flask templates list|show|apply|delete`: rules without a client."""

from __future__ import annotations

from typing import Any

import click

from app.api.admin.rules.rule_json import document_answer, rule_answer
from app.api.admin.rules.rule_warnings import if_readable, warnings_of
from app.api.admin.template_schemas import ApplicationSchema
from app.cli.command import agree, as_json, asking, by_operator, command, of_tenant, tenant_named
from app.cli.output import print_changes, print_json, print_table, shown_owner
from app.cli.resources.context import session
from app.cli.rules.table import print_rules, shown_limits
from app.rules.documents import differences, document_of, without_owner
from app.rules.sql.changes import RuleChanges
from app.rules.sql.history import Author
from app.rules.sql.repository import RuleRepository
from app.rules.sql.templates import Template, Templates


@command("list")
@of_tenant
@as_json
def list_templates(tenant: str, as_json: bool) -> None:
    """Built-in templates, then the tenant's own."""
    templates = Templates(session(), tenant_named(tenant).id).all()
    if as_json:
        print_json([_document(template) for template in templates])
        return
    rows = ((t.name, t.builtin, len(t.rules), t.description) for t in templates)
    print_table(("NAME", "BUILT IN", "RULES", "DESCRIPTION"), rows, widest=None)


@command("show")
@click.argument("name")
@of_tenant
@as_json
def show_template(name: str, tenant: str, as_json: bool) -> None:
    """The rules of a template."""
    tenant_id = tenant_named(tenant).id
    template = Templates(session(), tenant_id).get(name)
    if as_json:
        print_json(_document(template))
        return
    rules = template.rules_for({}, tenant_id)
    rows = ((rule.layer, rule.endpoint, rule.action, shown_limits(rule), rule.fail_mode, rule.shadow) for rule in rules)
    print_table(("LAYER", "ENDPOINT", "ACTION", "LIMITS", "FAIL MODE", "SHADOW"), rows)


@command("apply")
@click.argument("name")
@click.argument("client_id", required=False)
@of_tenant
@click.option("--group", help="For this group or pattern of groups instead of a client.")
@asking
@by_operator
@as_json
def apply_template(
    name: str, client_id: str | None, tenant: str, group: str | None, yes: bool, author: Author, as_json: bool
) -> None:
    """Create or replace the template's rules for a client, a group or a pattern. Asks before it replaces any."""
    owner = ApplicationSchema().load({"client_id": client_id, "group": group})
    tenant_id = tenant_named(tenant).id
    rules = Templates(session(), tenant_id).get(name).rules_for(owner, tenant_id)
    changes = RuleChanges(session(), tenant_id, author)
    seen = None if yes else changes.compare(rules, replace=False)
    for before, after in seen.replaced if seen else ():
        click.echo(
            f"rule {before.id} ({shown_owner(client_id, group)}, {before.endpoint or 'any endpoint'}):", err=True
        )
        print_changes(differences(document_of(before), document_of(after)), err=True)
    if seen and seen.replaced:
        agree("Replace what is there?", yes)
    merge = changes.merge(rules, agreed=seen)
    done = [*merge.created, *(after for _, after in merge.replaced), *merge.unchanged]
    if as_json:
        print_json([rule_answer(rule) for rule in done])
    else:
        print_rules(done, as_json=False)
    rules_now = RuleRepository(session())
    for warning in (
        if_readable(lambda: [warnings for rule in done for warnings in warnings_of(rule, None, rules_now)]) or []
    ):
        click.echo(warning, err=True)


@command("delete")
@click.argument("name")
@of_tenant
@asking
@by_operator
def delete_template(name: str, tenant: str, yes: bool, author: Author) -> None:
    """Delete a template of the tenant's own. Rules made from it stay."""
    templates = Templates(session(), tenant_named(tenant).id)
    templates.get(name)
    agree(f"Delete the template {name}?", yes)
    templates.delete(name, author)
    click.echo(f"template {name}: deleted")


def _document(template: Template) -> dict[str, Any]:
    rules = [without_owner(document_answer(document)) for document in template.rules]
    return {"name": template.name, "description": template.description, "builtin": template.builtin, "rules": rules}
