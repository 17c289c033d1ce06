"""`flask tenants list|create|delete`, `flask keys create|list|revoke|rotate-secret`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

import click
from flask import current_app

from app.cli.commands import Commands, as_json, author, of_tenant, say_json, say_table, tenant_named
from app.extensions import db
from app.rules.access import Tenants
from app.rules.api_key import SCOPES
from app.rules.api_keys import ApiKeys, can_expire_at, rotate_hash_secret
from app.rules.rule import MAX_NAME

MAX_LISTED = 10_000

tenants = Commands("tenants", help="Tenants: list, create, delete.")
keys = Commands("keys", help="API keys: create, list, revoke.")


class NameType(click.ParamType):
    name = "NAME"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not (1 <= len(value) <= MAX_NAME and value.isprintable()):
            self.fail(f"a name has 1 to {MAX_NAME} printable characters", param, ctx)
        return value


@tenants.command("list")
@as_json
def list_tenants(as_json: bool) -> None:
    """All tenants."""
    found, _ = Tenants(db.session()).page(0, MAX_LISTED)
    if as_json:
        say_json([asdict(tenant) for tenant in found])
    else:
        say_table(("ID", "NAME", "CREATED"), ((tenant.id, tenant.name, tenant.created_at) for tenant in found))


@tenants.command("create")
@click.argument("name", type=NameType())
def create_tenant(name: str) -> None:
    """Create a tenant."""
    click.echo(f"tenant {Tenants(db.session()).create(name, author()).id}: created")


@tenants.command("delete")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Delete its rules, keys and counters too.")
def delete_tenant(name: str, yes: bool) -> None:
    """Delete a tenant: an empty one at once, another with --yes, after saying what goes with it."""
    tenant = tenant_named(name)
    goes = Tenants(db.session()).belongings(tenant.id)
    if (goes["rules"] or goes["keys"]) and not yes:
        lost = f"{goes['rules']} rules, {goes['keys']} keys and all its counters"
        raise click.ClickException(f"with tenant {name} go {lost}: delete them with --yes")
    Tenants(db.session()).delete(tenant.id, author())
    click.echo(f"tenant {tenant.id}: deleted; its counters follow once every node has heard of it")
    deleted = current_app.extensions["ratelimiter"].deleted_tenants.forget(tenant.id)
    click.echo(f"tenant {tenant.id}: {deleted} keys deleted in Redis")


@keys.command("list")
@of_tenant
@click.option("--revoked", is_flag=True, help="Those revoked instead of those in force.")
@as_json
def list_keys(tenant: str, revoked: bool, as_json: bool) -> None:
    """The keys of a tenant. None of them can be shown."""
    found, _ = ApiKeys(db.session(), tenant_named(tenant).id).page(0, MAX_LISTED, revoked=revoked)
    if as_json:
        say_json([asdict(key) for key in found])
        return
    head = ("ID", "NAME", "SCOPES", "CREATED", "EXPIRES", "LAST USED", "MADE BY")
    rows = ((k.id, k.name, " ".join(k.scopes), k.created_at, k.expires_at, k.last_used_at, k.maker) for k in found)
    say_table(head, rows)


@keys.command("create")
@click.argument("name", type=NameType())
@click.option("--scope", "scopes", type=click.Choice(SCOPES), multiple=True, required=True, help="Repeatable.")
@click.option("--expires-at", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]), help="In UTC.")
@of_tenant
@as_json
def create_key(name: str, scopes: tuple[str, ...], expires_at: datetime | None, tenant: str, as_json: bool) -> None:
    """Make a key, and show it this once."""
    expires_at = expires_at and expires_at.replace(tzinfo=UTC)
    if expires_at is not None and not can_expire_at(expires_at, datetime.now(UTC)):
        raise click.BadParameter("this must be in the future, and within 100 years", param_hint="--expires-at")
    owner = tenant_named(tenant).id
    record, key = ApiKeys(db.session(), owner).create(owner, name, scopes, expires_at, author())
    if as_json:
        say_json({"key": key} | asdict(record))
    else:
        click.echo(f"key {record.id}, shown this once:", err=True)
        click.echo(key)


@keys.command("revoke")
@click.argument("key_id")
@click.option("--children", is_flag=True, help="Its rotations too, and all that any of them made.")
def revoke_key(key_id: str, children: bool) -> None:
    """Revoke a key of any tenant, everywhere within a second."""
    revoked = ApiKeys(db.session(), None).revoke(key_id, author(), children=children)
    click.echo(f"key {key_id}: revoked" + (f", {revoked} keys in all" if children else ""))


@keys.command("rotate-secret")
@click.confirmation_option("--yes", prompt="Revoke every API key of every tenant?")
def rotate_secret() -> None:
    """Hash keys under a new secret. Every key has to be made anew; ADMIN_API_KEY goes on."""
    click.echo(f"{rotate_hash_secret(db.session(), author())} keys revoked; make new ones")
