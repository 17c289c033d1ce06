"""An immutable snapshot of all rules that finds the rule for a check."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

from msgspec.structs import replace

from app.rules.api_key import ApiKey, KeyHash
from app.rules.matching.pattern_index import Matches
from app.rules.matching.tenant_rules import TenantRules
from app.rules.metric_series import RuleSeries
from app.rules.rule import Limit, Rule
from app.rules.sync.yielding import Pace, unpaced
from app.rules.validation import require_valid

LARGE = 1000  # items; freeing as many takes a third of a millisecond


class RulesetId(NamedTuple):
    """Identifies a state of a database.

    Two databases may reach the same version, but never with the same secret. A restored backup may repeat a version,
    but never with the same `drawn`, which is random for each change.
    """

    version: int
    key_secret: bytes
    drawn: str = ""  # hex; empty in files saved by a release before this one


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The database's content at one `version`: every tenant's rules and API keys.

    `key_secret` spells Redis keys; `key_hash_secret` hashes API keys. `tenants`: tenant ids by name. `drawn`: the
    database's random name for this state.
    """

    version: int
    key_secret: bytes
    rules: tuple[Rule, ...]
    keys: tuple[ApiKey, ...] = ()
    key_hash_secret: bytes = b""
    tenants: dict[str, int] = field(default_factory=dict)
    drawn: str = ""

    @property
    def ruleset_id(self) -> RulesetId:
        return RulesetId(self.version, self.key_secret, self.drawn)


class RuleBook:
    """Matches checks to rules. `default` decides if no stored rule matches; `algorithm` is for limits without one.

    Rules that are the same objects as in the `previous` book keep their resolved objects, so that values computed from
    them stay valid. Raises InvalidRule for a rule that cannot decide.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        default: Rule,
        algorithm: str,
        previous: RuleBook | None = None,
        pace: Pace = unpaced,
    ) -> None:
        self.ruleset_id = snapshot.ruleset_id
        self.keys = {key.id: key for key in pace(snapshot.keys)}
        self.key_hash = KeyHash(snapshot.key_hash_secret)
        self.tenants = snapshot.tenants
        self._algorithm = algorithm
        self._default: Rule = previous._default if previous else _resolved(default, algorithm)
        self._stored: dict[int, Rule] = {}  # by rule id
        self._ready: dict[int, Rule] = {}  # by rule id, with every algorithm set
        self._enforced: defaultdict[int, TenantRules] = defaultdict(TenantRules)
        self._shadows: defaultdict[int, TenantRules] = defaultdict(TenantRules)
        for rule in pace(snapshot.rules):
            ready = self._made_ready(rule, previous)
            if ready.enabled:
                tenants = self._shadows if ready.shadow else self._enforced
                tenants[ready.tenant_id].add(ready)
        self._index(previous, pace)
        self.has_shadows = bool(self._shadows)
        self.series = RuleSeries(self._ready, pace)

    def match(self, tenant_id: int, client_id: str, limit_key: str) -> Rule:
        """Return the most specific rule for this check; the built-in default if no stored rule matches."""
        rules = self._enforced.get(tenant_id)
        return self._default if rules is None else rules.match(client_id, limit_key) or self._default

    def match_shadow(self, tenant_id: int, client_id: str, limit_key: str) -> Rule | None:
        """Return the most specific shadow rule, decided beside the enforced one."""
        rules = self._shadows.get(tenant_id)
        return None if rules is None else rules.match(client_id, limit_key)

    def rule(self, tenant_id: int, rule_id: int) -> Rule | None:
        """Return the tenant's stored rule of that id, or the built-in default."""
        rule = self._ready.get(rule_id)
        if rule is not None and rule.tenant_id == tenant_id:
            return rule
        return self._default if rule_id == self._default.id else None

    def decides_by(self, rule: Rule) -> bool:
        """Whether `match` returns this very object. False once the rule was edited."""
        return self._ready.get(rule.id) is rule or self._default is rule

    def tried(self, tenant_id: int) -> int:
        """Return how many of the tenant's patterns may have to be tried to match one check."""
        indexes = (index[tenant_id] for index in (self._enforced, self._shadows) if tenant_id in index)
        return sum(rules.tried for rules in indexes)

    def candidates(self, tenant_id: int, client_id: str) -> list[Rule]:
        """Return every rule that can decide some check of this client: enforced ones, then shadows, then the default.

        The enforced rules and the shadows are each ordered, the most specific first.
        """
        indexes = (index[tenant_id] for index in (self._enforced, self._shadows) if tenant_id in index)
        return [rule for rules in indexes for rule in rules.candidates(client_id)] + [self._default]

    def large_parts(self, pace: Pace) -> list[dict[Any, Any]]:
        """Return the large collections that only this book has, for `let_go` once the book is gone."""
        tenants = chain(self._enforced.values(), self._shadows.values())
        parts = chain((self._stored, self._ready), chain.from_iterable(rules.parts() for rules in tenants))
        return [part for part in pace(parts) if len(part) > LARGE]

    def _made_ready(self, rule: Rule, previous: RuleBook | None) -> Rule:
        if previous is not None and previous._stored.get(rule.id) is rule:
            ready = previous._ready[rule.id]
        else:
            require_valid(rule)
            ready = _resolved(rule, self._algorithm)
        self._stored[rule.id], self._ready[rule.id] = rule, ready
        return ready

    def _index(self, previous: RuleBook | None, pace: Pace) -> None:
        matches = Matches()
        before = (previous._enforced, previous._shadows) if previous else ({}, {})
        for tenants, earlier in zip((self._enforced, self._shadows), before, strict=True):
            for tenant_id, rules in tenants.items():
                rules.index_patterns(earlier.get(tenant_id), matches, pace)


def _resolved(rule: Rule, algorithm: str) -> Rule:
    limits = _named(rule.limits, algorithm)
    return rule if limits == rule.limits else replace(rule, limits=limits)


@lru_cache(maxsize=4096)  # thousands of rules have the same few limits
def _named(limits: tuple[Limit, ...], algorithm: str) -> tuple[Limit, ...]:
    return limits if all(limit.algorithm for limit in limits) else tuple(limit.resolved(algorithm) for limit in limits)
