"""The rules of one client, to look at what decides for it."""

from __future__ import annotations

from app.cli.resources.context import session, settings
from app.rules.rule import Rule, default_rule
from app.rules.rule_book import RuleBook, Snapshot
from app.rules.sql.repository import RuleRepository
from app.rules.sql.ruleset_version import RulesetVersions


def book_of(*rules: Rule) -> RuleBook:
    """A book of these rules, with the deployment's default and the secret under which Redis's keys are spelled."""
    ruleset_id = RulesetVersions(session()).current()
    default = default_rule(settings().default_rate, settings().default_window)
    snapshot = Snapshot(ruleset_id.version, ruleset_id.key_secret, rules)
    return RuleBook(snapshot, default=default, algorithm=settings().algorithm)


def book_of_client(tenant_id: int, client_id: str) -> RuleBook:
    """Of what may decide for the client: of thousands of rules these are few."""
    return book_of(*RuleRepository(session()).of_client(tenant_id, client_id))
