"""The commands for deploys and incidents: `flask --app wsgi …`. This file is their table of contents.

A command is imported when it is run, and imports only the parts of the service that it needs. During an incident a
second is long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from flask import Flask

from app.cli.lazy import LazyCommand, Migrations
from app.cli.resources.context import CommandContext
from app.version import __version__

if TYPE_CHECKING:
    from app.config import Settings

# Group -> command -> its module and name, and its help in one line.
GROUPS = {
    "rules": (
        "Rules: look, change, import, export, validate, compare, roll back.",
        {
            "list": ("rules.crud:list_rules", "The rules of a tenant, oldest first."),
            "show": ("rules.crud:show_rule", "One rule, all of its fields."),
            "set": ("rules.crud:set_rule", "Create the rule of this client"),
            "edit": ("rules.changes:edit_rule", "Change the named fields and keep the others."),
            "delete": ("rules.crud:delete_rule", "Delete a rule."),
            "block": ("rules.changes:block", "Deny a client (an id, a network or a pattern) everything"),
            "unblock": ("rules.changes:unblock", "Unblock a client."),
            "promote": ("rules.changes:promote", "Enforce a shadow rule."),
            "load-examples": ("rules.crud:load_examples", "Store the example rules, once per database."),
            "validate": ("rules.files:validate", "Check a file of rules."),
            "diff": ("rules.files:diff", "Show what importing the file would change."),
            "import": ("rules.files:import_rules", "Create or replace all rules of the file, or none of them."),
            "export": ("rules.files:export", "All rules of a tenant, as a file that `import` takes."),
            "history": ("rules.history:history", "The versions of a rule, newest first."),
            "rollback": ("rules.history:roll_back", "Restore a version of a rule."),
            "prune": ("rules.history:prune_history", "Delete old audit events and versions."),
        },
    ),
    "tenants": (
        "Tenants: list, create, delete.",
        {
            "list": ("tenants:list_tenants", "All tenants."),
            "create": ("tenants:create_tenant", "Create a tenant."),
            "delete": ("tenants:delete_tenant", "Delete a tenant."),
        },
    ),
    "keys": (
        "API keys: create, list, rotate, revoke.",
        {
            "list": ("api_keys:list_keys", "The keys of a tenant."),
            "create": ("api_keys:create_key", "Create a key and show it once."),
            "rotate": ("api_keys:rotate_key", "Replace a key by one with its name, scopes and expiry"),
            "revoke": ("api_keys:revoke_key", "Revoke a key of any tenant."),
            "rotate-secret": ("api_keys:rotate_secret", "Replace the secret of key hashes."),
        },
    ),
    "templates": (
        "Templates: list, show, apply, delete.",
        {
            "list": ("rules.templates:list_templates", "Built-in templates, then the tenant's own."),
            "show": ("rules.templates:show_template", "The rules of a template."),
            "apply": (
                "rules.templates:apply_template",
                "Create or replace the template's rules for a client, a group or a pattern.",
            ),
            "delete": ("rules.templates:delete_template", "Delete a template of the tenant's own."),
        },
    ),
    "counters": (
        "Counters of clients, groups and shared rules: show, reset.",
        {
            "show": ("counters:show_counters", "Show what the client has left."),
            "reset": ("counters:reset_counters", "Forget what the client has consumed."),
        },
    ),
}
COMMANDS = {
    "explain": (
        "rules.explain:explain_check",
        "Show the rules that decide a check of this client and key, why, and what is left.",
    ),
    "limited": ("denied_clients:limited", "The clients denied most in the last hour on all nodes"),
    "audit": ("audit:audit", "Changes with their authors, newest first."),
    "client-id": ("client_id:client_id", "The client id that the SDK makes of an API key or of a cookie's value."),
}


def init_app(app: Flask, settings: Settings | None = None) -> None:
    """Add the commands. `settings` None: read the environment when a command first needs settings."""
    app.extensions["commands"] = CommandContext(settings)
    for name, (help, commands) in GROUPS.items():
        group = click.Group(name, help=help)
        for word, (place, does) in commands.items():
            group.add_command(LazyCommand(word, place, does))
        app.cli.add_command(group)
    app.cli.add_command(show_version)
    for word, (place, does) in COMMANDS.items():
        app.cli.add_command(LazyCommand(word, place, does))


@click.command("version")
def show_version() -> None:
    """Show the release of the service."""
    click.echo(__version__)


def app_of_commands() -> Flask:
    """An application with nothing but commands."""
    app = Flask("app", static_folder=None)
    init_app(app)
    app.cli.add_command(Migrations("db", help="Perform database migrations."))
    return app


def flask_wants_command() -> bool:
    """Whether `flask` looks for a command. Its own commands (`run`, `routes`, `shell`) need the service."""
    context = click.get_current_context(silent=True)
    return context is not None and context.parent is None
