"""`flask tenants list|create|delete`."""

from __future__ import annotations

from dataclasses import asdict

import click

from app.cli.command import agree, as_json, asking, by_operator, command, tenant_named
from app.cli.output import many, print_json, print_table
from app.cli.resources.context import session
from app.rules.rule import MAX_NAME
from app.rules.sql.access.tenants import Tenants
from app.rules.sql.history import Author

MAX_LISTED = 10_000


class NameType(click.ParamType):
    name = "NAME"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not (1 <= len(value) <= MAX_NAME and value.isprintable()):
            self.fail(f"a name has 1 to {MAX_NAME} printable characters", param, ctx)
        return value


@command("list")
@as_json
def list_tenants(as_json: bool) -> None:
    """All tenants."""
    found, _ = Tenants(session()).page(0, MAX_LISTED)
    if as_json:
        print_json([asdict(tenant) for tenant in found])
    else:
        print_table(("ID", "NAME", "CREATED"), ((tenant.id, tenant.name, tenant.created_at) for tenant in found))


@command("create")
@click.argument("name", type=NameType())
@by_operator
def create_tenant(name: str, author: Author) -> None:
    """Create a tenant."""
    click.echo(f"tenant {Tenants(session()).create(name, author).id}: created")


@command("delete")
@click.argument("name")
@asking
@by_operator
def delete_tenant(name: str, yes: bool, author: Author) -> None:
    """Delete a tenant: at once if it is empty, else after showing what it deletes."""
    from app.cli.tenant_cleanup import forget_counters  # needs Redis, as no other command here does

    tenant = tenant_named(name)
    goes = Tenants(session()).belongings(tenant.id)
    if goes["rules"] or goes["keys"]:
        lost = f"{many(goes['rules'], 'rule')}, {many(goes['keys'], 'key')} and all its counters"
        agree(f"Deleting tenant {name} also deletes {lost}.", yes)
    Tenants(session()).delete(tenant.id, author)
    click.echo(f"tenant {tenant.id}: deleted; its counters follow once every node knows of it")
    click.echo(f"tenant {tenant.id}: {forget_counters(tenant.id)} keys deleted in Redis")
