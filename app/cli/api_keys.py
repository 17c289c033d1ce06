"""`flask keys create|list|rotate|revoke|rotate-secret`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import click

from app.cli.command import agree, as_json, asking, by_operator, command, of_tenant, tenant_named
from app.cli.output import print_json, print_table
from app.cli.resources.context import session
from app.cli.tenants import MAX_LISTED, NameType
from app.cli.times import DurationType
from app.rules.api_key import SCOPES
from app.rules.sql.access.api_keys import ApiKeys, KeyRecord, can_expire_at, rotate_hash_secret
from app.rules.sql.history import Author

MAX_OVERLAP = timedelta(days=30)  # as over HTTP


@command("list")
@of_tenant
@click.option("--revoked", is_flag=True, help="Revoked keys instead of valid ones.")
@as_json
def list_keys(tenant: str, revoked: bool, as_json: bool) -> None:
    """The keys of a tenant, without their secrets: those are not stored."""
    found, _ = ApiKeys(session(), tenant_named(tenant).id).page(0, MAX_LISTED, revoked=revoked)
    if as_json:
        print_json([asdict(key) for key in found])
        return
    head = ("ID", "NAME", "SCOPES", "CREATED", "EXPIRES", "LAST USED", "MADE BY")
    rows = ((k.id, k.name, " ".join(k.scopes), k.created_at, k.expires_at, k.last_used_at, k.maker) for k in found)
    print_table(head, rows)


@command("create")
@click.argument("name", type=NameType())
@click.option("--scope", "scopes", type=click.Choice(SCOPES), multiple=True, required=True, help="Repeatable.")
@click.option("--expires-at", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]), help="In UTC.")
@of_tenant
@by_operator
@as_json
def create_key(
    name: str, scopes: tuple[str, ...], expires_at: datetime | None, tenant: str, author: Author, as_json: bool
) -> None:
    """Create a key and show it once."""
    expires_at = expires_at and expires_at.replace(tzinfo=UTC)
    if expires_at is not None and not can_expire_at(expires_at, datetime.now(UTC)):
        raise click.BadParameter("this must be in the future, and within 100 years", param_hint="--expires-at")
    owner = tenant_named(tenant).id
    record, key = ApiKeys(session(), owner).create(owner, name, scopes, expires_at, author)
    _show(record, key, as_json)


@command("rotate")
@click.argument("key_id")
@click.option(
    "--overlap", type=DurationType(), default="1d", show_default=True, help="How long the old key stays valid."
)
@by_operator
@as_json
def rotate_key(key_id: str, overlap: timedelta, author: Author, as_json: bool) -> None:
    """Replace a key by one with its name, scopes and expiry. The old key ends after the overlap (0: now)."""
    if overlap > MAX_OVERLAP:
        raise click.BadParameter(f"{MAX_OVERLAP.days}d at most", param_hint="--overlap")
    record, key = ApiKeys(session(), None).rotate(key_id, int(overlap.total_seconds()), author)
    _show(record, key, as_json)


@command("revoke")
@click.argument("key_id")
@click.option("--children", is_flag=True, help="Also its rotations, and all keys that any of them made.")
@by_operator
def revoke_key(key_id: str, children: bool, author: Author) -> None:
    """Revoke a key of any tenant, everywhere within a second."""
    revoked = ApiKeys(session(), None).revoke(key_id, author, children=children)
    click.echo(f"key {key_id}: revoked" + (f", {revoked} keys in all" if children else ""))


@command("rotate-secret")
@asking
@by_operator
def rotate_secret(yes: bool, author: Author) -> None:
    """Replace the secret of key hashes. This revokes every key except ADMIN_API_KEY."""
    agree("Revoke every API key of every tenant?", yes)
    click.echo(f"{rotate_hash_secret(session(), author)} keys revoked; make new ones")


def _show(record: KeyRecord, key: str, as_json: bool) -> None:
    if as_json:
        print_json({"key": key} | asdict(record))
    else:
        click.echo(f"key {record.id}, shown this once:", err=True)
        click.echo(key)
