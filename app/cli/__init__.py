"""Commands for deploys and incidents: `flask --app wsgi …`. This is their table of contents.

A command is imported when it is asked for, and takes nothing of the service that it does not need: at night a second
is long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from flask import Flask

from app.cli.later import Later, Migrations
from app.cli.means import Means
from app.version import __version__

if TYPE_CHECKING:
    from app.config import Settings

# Group -> command -> where it is, and what it does in one line.
GROUPS = {
    "rules": (
        "Rules: look, change, import, export, validate, compare, roll back.",
        {
            "list": ("rules:list_rules", "The rules of a tenant, oldest first."),
            "show": ("rules:show_rule", "One rule, all of its fields."),
            "set": ("rules:set_rule", "Create the rule of this client"),
            "edit": ("rule_changes:edit_rule", "Change the named fields and keep the others."),
            "delete": ("rules:delete_rule", "Delete a rule."),
            "block": ("rule_changes:block", "Deny a client (an id, a network or a pattern) everything"),
            "unblock": ("rule_changes:unblock", "Unblock a client."),
            "promote": ("rule_changes:promote", "Enforce a shadow rule."),
            "load-examples": ("rules:load_examples", "Store the example rules, once per database."),
            "validate": ("files:validate", "Check a file of rules."),
            "diff": ("files:diff", "What importing the file would change."),
            "import": ("files:import_rules", "Create or replace all rules of the file, or none of them."),
            "export": ("files:export", "All rules of a tenant, as a file that `import` takes."),
            "history": ("history:history", "The versions of a rule, newest first."),
            "rollback": ("history:roll_back", "Restore a version of a rule."),
            "prune": ("history:prune_history", "Delete old audit events and versions."),
        },
    ),
    "tenants": (
        "Tenants: list, create, delete.",
        {
            "list": ("access:list_tenants", "All tenants."),
            "create": ("access:create_tenant", "Create a tenant."),
            "delete": ("access:delete_tenant", "Delete a tenant."),
        },
    ),
    "keys": (
        "API keys: create, list, rotate, revoke.",
        {
            "list": ("access:list_keys", "The keys of a tenant."),
            "create": ("access:create_key", "Create a key and show it once."),
            "rotate": ("access:rotate_key", "Replace a key by one with its name, scopes and expiry"),
            "revoke": ("access:revoke_key", "Revoke a key of any tenant."),
            "rotate-secret": ("access:rotate_secret", "Replace the secret of key hashes."),
        },
    ),
    "templates": (
        "Templates: list, show, apply, delete.",
        {
            "list": ("templates:list_templates", "Built-in templates, then the tenant's own."),
            "show": ("templates:show_template", "The rules of a template."),
            "apply": ("templates:apply_template", "Create or replace the template's rules for a client or a pattern."),
            "delete": ("templates:delete_template", "Delete a template of the tenant's own."),
        },
    ),
    "counters": (
        "Counters of a client: show, reset.",
        {
            "show": ("counters:show_counters", "What the client has left."),
            "reset": ("counters:reset_counters", "Forget what the client has consumed."),
        },
    ),
}
COMMANDS = {
    "explain": ("explain:explain_check", "Which rule decides a check of this client and key, why, and what is left."),
    "limited": ("limited:limited", "The clients denied most in the last hour on all nodes"),
    "audit": ("audit:audit", "Changes with their authors, newest first."),
    "client-id": ("digest:client_id", "The client id that the SDK makes of an API key or of a cookie's value."),
}


def init_app(app: Flask, settings: Settings | None = None) -> None:
    """Add the commands. `settings` None: those of the environment, once a command asks for one."""
    app.extensions["commands"] = Means(settings)
    for name, (help, commands) in GROUPS.items():
        group = click.Group(name, help=help)
        for word, (place, does) in commands.items():
            group.add_command(Later(word, place, does))
        app.cli.add_command(group)
    app.cli.add_command(show_version)
    for word, (place, does) in COMMANDS.items():
        app.cli.add_command(Later(word, place, does))


@click.command("version")
def show_version() -> None:
    """Which release of the service this is."""
    click.echo(__version__)


def app_of_commands() -> Flask:
    """An application that has nothing but commands."""
    app = Flask("app", static_folder=None)
    init_app(app)
    app.cli.add_command(Migrations("db", help="Perform database migrations."))
    return app


def is_asked() -> bool:
    """Whether `flask` looks for a command. Those that it has itself (`run`, `routes`, `shell`) need the service."""
    context = click.get_current_context(silent=True)
    return context is not None and context.parent is None
