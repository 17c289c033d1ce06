"""Changes to rules, each one transaction: the rows, and the version that tells every worker to read them again."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.rules.examples import EXAMPLES
from app.rules.repository import RuleRepository
from app.rules.rule import Rule


def put_rule(session: Session, rule: Rule) -> tuple[Rule, bool]:
    """Create the rule, or replace its twin: the one of the same tenant, client and endpoint. Durable on return.

    Returns the stored rule and whether it is new.
    """
    rules = RuleRepository(session)
    rules.bump_version()  # first: it makes changes wait for one another
    current = rules.twin(rule)
    stored = rules.replace(current, rule) if current else rules.add(rule)
    session.commit()
    return stored, current is None


def delete_rule(session: Session, tenant_id: int, rule_id: int) -> bool:
    """Delete the tenant's rule. Durable on return; False where there is none."""
    rules = RuleRepository(session)
    rules.bump_version()
    if rules.get(tenant_id, rule_id) is None:
        session.rollback()
        return False
    rules.delete(rule_id)
    session.commit()
    return True


def load_examples(session: Session) -> int:
    """Store the example rules, once in the life of a database: a deleted example stays deleted. Returns how many."""
    rules = RuleRepository(session)
    if not rules.claim_examples():
        session.rollback()
        return 0
    rules.bump_version()
    missing = [rule for rule in EXAMPLES if rules.twin(rule) is None]
    for rule in missing:
        rules.add(rule)
    session.commit()
    return len(missing)
