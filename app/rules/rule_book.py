"""An immutable snapshot of all rules that finds the rule for a check."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

from msgspec.structs import replace

from app.rules.api_key import ApiKey, KeyHash
from app.rules.matching.layered_rules import Deciding, LayeredRules
from app.rules.matching.pattern_index import Matches
from app.rules.matching.tenant_rules import TenantRules
from app.rules.metric_series import RuleSeries
from app.rules.rule import DEFAULT_LAYER, Limit, Rule
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
        self.layered: set[int] = set()  # tenants whose checks are matched by `deciding`; most have no layers
        self._enforced_layers: dict[int, LayeredRules] = {}
        self._shadow_layers: dict[int, LayeredRules] = {}
        for rule in pace(snapshot.rules):
            ready = self._made_ready(rule, previous)
            if ready.enabled:
                self._add(ready)
        self._index(previous, pace)
        self.has_shadows = bool(self._shadows)
        self.series = RuleSeries(self._ready, pace)

    def match(self, tenant_id: int, client_id: str, limit_key: str) -> Rule:
        """Return the most specific rule for this check; the built-in default if no stored rule matches.

        For tenants in `layered`, it is the rule of the layer default for a check without groups.
        """
        rules = self._enforced.get(tenant_id)
        return self._default if rules is None else rules.match(client_id, limit_key) or self._default

    def match_shadow(self, tenant_id: int, client_id: str, limit_key: str) -> Rule | None:
        """Return the most specific shadow rule, decided beside the enforced one."""
        rules = self._shadows.get(tenant_id)
        return None if rules is None else rules.match(client_id, limit_key)

    def deciding(
        self, tenant_id: int, client_id: str, limit_key: str, groups: Sequence[str] = ()
    ) -> tuple[Deciding, ...]:
        """Return the rules that decide this check of any tenant: one of each layer, the layer default first."""
        layers = self._enforced_layers.get(tenant_id)
        if layers is None:
            return (Deciding(self.match(tenant_id, client_id, limit_key)),)
        found = tuple(layers.match(client_id, limit_key, groups))
        if found and found[0].rule.layer == DEFAULT_LAYER:
            return found
        return Deciding(self._default), *found

    def deciding_shadows(
        self, tenant_id: int, client_id: str, limit_key: str, groups: Sequence[str] = ()
    ) -> tuple[Deciding, ...]:
        """Return the shadow rules that are decided beside: at most one of each layer."""
        layers = self._shadow_layers.get(tenant_id)
        if layers is not None:
            return tuple(layers.match(client_id, limit_key, groups))
        rule = self.match_shadow(tenant_id, client_id, limit_key)
        return () if rule is None else (Deciding(rule),)

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
        return sum(rules.tried for rules in self._rules_of(tenant_id))

    def candidates(self, tenant_id: int, client_id: str, groups: Sequence[str] = ()) -> list[Deciding]:
        """Return every rule that can decide some check of this client with these groups.

        Enforced rules come first, then shadows, then the default. The first two are ordered by layer, then the most
        specific first.
        """
        found: list[Deciding] = []
        for rules in self._rules_of(tenant_id):
            if isinstance(rules, LayeredRules):
                found += rules.candidates(client_id, groups)
            else:
                found += map(Deciding, rules.candidates(client_id))
        return [*found, Deciding(self._default)]

    def group_rules(self, tenant_id: int) -> list[Rule]:
        """Return the tenant's enabled rules of groups, shadows too."""
        if tenant_id not in self.layered:
            return []
        rules = self._ready.values()
        return [rule for rule in rules if rule.group is not None and rule.enabled and rule.tenant_id == tenant_id]

    def large_parts(self, pace: Pace) -> list[dict[Any, Any]]:
        """Return the large collections that only this book has, for `let_go` once the book is gone."""
        every = chain.from_iterable(index.values() for index in self._indexes)
        parts = chain((self._stored, self._ready), chain.from_iterable(rules.parts() for rules in every))
        return [part for part in pace(parts) if len(part) > LARGE]

    def _rules_of(self, tenant_id: int) -> list[TenantRules | LayeredRules]:
        """Return the tenant's enforced rules and its shadows, where it has any."""
        indexes = (self._enforced, self._enforced_layers), (self._shadows, self._shadow_layers)
        found = (layers.get(tenant_id) or plain.get(tenant_id) for plain, layers in indexes)
        return [rules for rules in found if rules is not None]

    def _add(self, rule: Rule) -> None:
        tenant_id = rule.tenant_id
        plain = (self._shadows if rule.shadow else self._enforced)[tenant_id]
        if rule.group is None and rule.layer == DEFAULT_LAYER:
            plain.add(rule)
            if not rule.shared:
                return
        else:
            layers = self._shadow_layers if rule.shadow else self._enforced_layers
            if tenant_id not in layers:
                layers[tenant_id] = LayeredRules(plain)
            layers[tenant_id].add(rule)
        self.layered.add(tenant_id)

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
        before = previous._indexes if previous else ({}, {}, {}, {})
        for tenants, earlier in zip(self._indexes, before, strict=True):
            for tenant_id, rules in tenants.items():
                rules.index_patterns(earlier.get(tenant_id), matches, pace)

    @property
    def _indexes(self) -> tuple[dict[int, Any], ...]:
        """TenantRules or LayeredRules by tenant."""
        return self._enforced, self._shadows, self._enforced_layers, self._shadow_layers


def _resolved(rule: Rule, algorithm: str) -> Rule:
    limits = _named(rule.limits, algorithm)
    return rule if limits == rule.limits else replace(rule, limits=limits)


@lru_cache(maxsize=4096)  # thousands of rules have the same few limits
def _named(limits: tuple[Limit, ...], algorithm: str) -> tuple[Limit, ...]:
    return limits if all(limit.algorithm for limit in limits) else tuple(limit.resolved(algorithm) for limit in limits)
