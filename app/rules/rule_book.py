"""An immutable snapshot of all rules that answers "which rule decides this check?"."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from app.rules.patterns import NOTHING, Coverage, PatternIndex, covered
from app.rules.rule import Rule


class Edition(NamedTuple):
    """Which state of which database: two databases may reach the same version, never with the same secret."""

    version: int
    key_secret: bytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the database says at one `version`: every tenant's rules, and the secret under which keys are spelled."""

    version: int
    key_secret: bytes
    rules: tuple[Rule, ...]

    @property
    def edition(self) -> Edition:
        return Edition(self.version, self.key_secret)


class RuleBook:
    """Matches checks to rules. `default` decides where nothing stored does; `algorithm` is for limits naming none."""

    def __init__(self, snapshot: Snapshot, *, default: Rule, algorithm: str) -> None:
        self.edition = snapshot.edition
        self._default = _resolved(default, algorithm)
        enabled = [_resolved(rule, algorithm) for rule in snapshot.rules if rule.enabled]
        self._enforced = _by_tenant(rule for rule in enabled if not rule.shadow)
        self._shadows = _by_tenant(rule for rule in enabled if rule.shadow)

    def match(self, tenant_id: int, client_id: str, limit_key: str) -> Rule:
        """The most specific rule for this check; the built-in default where nothing stored matches."""
        rules = self._enforced.get(tenant_id)
        return self._default if rules is None else rules.match(client_id, limit_key) or self._default

    def match_shadow(self, tenant_id: int, client_id: str, limit_key: str) -> Rule | None:
        """The most specific shadow rule, decided beside the enforcing one."""
        rules = self._shadows.get(tenant_id)
        return None if rules is None else rules.match(client_id, limit_key)

    def candidates(self, tenant_id: int, client_id: str) -> list[Rule]:
        """Every rule that can decide some check of this client, the most specific first: those that are enforced, then
        shadows, then the default."""
        indexes = (index[tenant_id] for index in (self._enforced, self._shadows) if tenant_id in index)
        return [rule for rules in indexes for rule in rules.candidates(client_id)] + [self._default]


class _TenantRules:
    """A tenant's rules: exact client ids by dictionary, then its patterns, then `*`."""

    __slots__ = ("_everyone", "_exact", "_patterns")

    def __init__(self, coverages: dict[str, Coverage]) -> None:
        self._everyone = coverages.pop("*", NOTHING)
        patterns = {client: coverage for client, coverage in coverages.items() if "*" in client}
        self._exact = {client: coverage for client, coverage in coverages.items() if client not in patterns}
        self._patterns = PatternIndex(patterns) if patterns else None

    def match(self, client_id: str, limit_key: str) -> Rule | None:
        exact = self._exact.get(client_id)
        if exact is not None:
            by_key, rule = exact
            rule = by_key.get(limit_key, rule)
            if rule is not None:
                return rule
        if self._patterns is not None:
            rule = self._patterns.match(client_id, limit_key)
            if rule is not None:
                return rule
        by_key, rule = self._everyone
        return by_key.get(limit_key, rule)

    def candidates(self, client_id: str) -> list[Rule]:
        patterns = self._patterns.matching(client_id) if self._patterns else ()
        coverages = (self._exact.get(client_id, NOTHING), *patterns, self._everyone)
        return [rule for coverage in coverages for rule in coverage.rules()]


def _by_tenant(rules: Iterable[Rule]) -> dict[int, _TenantRules]:
    tenants: dict[int, dict[str, Coverage]] = {}
    for (tenant_id, client_id), coverage in covered(rules).items():
        tenants.setdefault(tenant_id, {})[client_id] = coverage
    return {tenant_id: _TenantRules(coverages) for tenant_id, coverages in tenants.items()}


def _resolved(rule: Rule, algorithm: str) -> Rule:
    return replace(rule, limits=tuple(limit.resolved(algorithm) for limit in rule.limits))
