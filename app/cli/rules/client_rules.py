"""The rules of one client, to show which of them decides."""

from __future__ import annotations

from app.cli.resources.context import session, settings
from app.rules.rule import Rule, default_rule
from app.rules.rule_book import RuleBook, Snapshot
from app.rules.sql.repository import RuleRepository
from app.rules.sql.ruleset_version import RulesetVersions


def book_of(*rules: Rule) -> RuleBook:
    """A book of these rules, with the deployment's default rule and the secret of its Redis keys."""
    ruleset_id = RulesetVersions(session()).current()
    default = default_rule(settings().default_rate, settings().default_window)
    snapshot = Snapshot(ruleset_id.version, ruleset_id.key_secret, rules)
    return RuleBook(snapshot, default=default, algorithm=settings().algorithm)


def book_of_client(tenant_id: int, client_id: str) -> RuleBook:
    """A book of the rules that may decide for the client: few of thousands."""
    return book_of(*RuleRepository(session()).of_client(tenant_id, client_id))
