"""The rules of a tenant that uses layers or groups: one rule of each layer decides a check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from app.rules.matching.pattern_index import Matches
from app.rules.matching.tenant_rules import TenantRules
from app.rules.rule import DEFAULT_LAYER, MAX_GROUPS, Rule
from app.rules.sync.yielding import Pace


class Deciding(NamedTuple):
    """A rule that decides a check, and the group by which it matched; None for a rule of clients."""

    rule: Rule
    group: str | None = None


class Layer:
    """The rules of one layer, either the enforced ones or the shadows."""

    __slots__ = ("clients", "groups")

    def __init__(self, clients: TenantRules | None = None) -> None:
        self.clients = TenantRules() if clients is None else clients
        self.groups = TenantRules(networks=False)

    def match(self, client_id: str, limit_key: str, groups: Sequence[str]) -> Deciding | None:
        """Return the most specific rule: one of the client, else of the first group that has one, else of `*`."""
        rule = self.clients.match(client_id, limit_key)
        if rule is None or rule.client_id == "*":
            for group in groups:
                found = self.groups.match(group, limit_key)
                if found is not None:
                    return Deciding(found, group)
        return None if rule is None else Deciding(rule)

    def candidates(self, client_id: str, groups: Sequence[str]) -> list[Deciding]:
        """Return every rule that can decide some check of this client with these groups, the most specific first."""
        clients = [Deciding(rule) for rule in self.clients.candidates(client_id)]
        of_all = [each for each in clients if each.rule.client_id == "*"]
        of_groups = [Deciding(rule, group) for group in groups for rule in self.groups.candidates(group)]
        return [*clients[: len(clients) - len(of_all)], *of_groups, *of_all]

    @property
    def tried(self) -> int:
        """The most patterns and prefix lengths to try for one check."""
        return self.clients.tried + MAX_GROUPS * self.groups.tried


class LayeredRules:
    """All rules of one tenant, enforced or shadows. Filled by `add`, then `index_patterns`; immutable afterwards.

    `plain`: its rules of clients in the layer default, which a RuleBook fills and indexes for every tenant.
    """

    def __init__(self, plain: TenantRules) -> None:
        self._layers = {DEFAULT_LAYER: Layer(plain)}

    def add(self, rule: Rule) -> None:
        """Add a rule that is not among the plain ones."""
        layer = self._layers.get(rule.layer)
        if layer is None:
            layer = self._layers[rule.layer] = Layer()
        (layer.clients if rule.group is None else layer.groups).add(rule)

    def index_patterns(self, previous: LayeredRules | None, matches: Matches, pace: Pace) -> None:
        """Prepare all but the plain rules for matching, and put the layers in order: default first, then by name."""
        names = sorted(self._layers.keys() - {DEFAULT_LAYER})
        self._layers = {name: self._layers[name] for name in (DEFAULT_LAYER, *names)}
        earlier: Mapping[str, Layer] = previous._layers if previous is not None else {}
        for name, layer in self._layers.items():
            before = earlier.get(name) or Layer()
            if name != DEFAULT_LAYER:
                layer.clients.index_patterns(before.clients, matches, pace)
            layer.groups.index_patterns(before.groups, matches, pace)

    def match(self, client_id: str, limit_key: str, groups: Sequence[str]) -> Iterator[Deciding]:
        """Return the most specific rule of each layer that has one for this check, in the order of layers."""
        found = (layer.match(client_id, limit_key, groups) for layer in self._layers.values())
        return (deciding for deciding in found if deciding is not None)

    def candidates(self, client_id: str, groups: Sequence[str]) -> list[Deciding]:
        """Return every rule that can decide some check of this client with these groups, layer by layer."""
        return [each for layer in self._layers.values() for each in layer.candidates(client_id, groups)]

    @property
    def tried(self) -> int:
        """The most patterns and prefix lengths to try for one check."""
        return sum(layer.tried for layer in self._layers.values())

    def parts(self) -> Iterator[dict[Any, Any]]:
        """Return the large collections, but for those of the plain rules."""
        indexes = chain.from_iterable((layer.clients, layer.groups) for layer in self._layers.values())
        return chain.from_iterable(rules.parts() for rules in indexes)
