"""One tenant's rules in order of precedence: exact client ids, networks, globs, then `*`. Or its rules of groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from app.rules.matching.glob import Coverage, is_pattern
from app.rules.matching.networks import NetworkIndex, may_be_network
from app.rules.matching.pattern_index import Matches, PatternIndex
from app.rules.rule import Rule
from app.rules.sync.yielding import Pace


class TenantRules:
    """Filled by `add`, then `index_patterns`; immutable afterwards.

    `networks` False: `ip:10.0.0.0/8` is the group of that name.

    Most clients have one rule for every key, which is one entry in one dictionary. So a book of thousands of rules
    makes no further objects, each of which would lengthen garbage collections.
    """

    __slots__ = (
        "_by_key",
        "_everyone",
        "_exact",
        "_has_networks",
        "_match_wide",
        "_network_rules",
        "_networks",
        "_pattern_rules",
        "_patterns",
    )

    def __init__(self, *, networks: bool = True) -> None:
        self._has_networks = networks
        self._exact: dict[str, Rule] = {}
        self._by_key: dict[str, dict[str, Rule]] = {}
        self._everyone = Coverage({}, None)
        self._network_rules: list[Rule] = []
        self._networks: NetworkIndex | None = None
        self._pattern_rules: list[Rule] = []
        self._patterns: PatternIndex | None = None
        self._match_wide: Callable[[str, str], Rule | None] | None = None  # by network or glob

    def add(self, rule: Rule) -> None:
        pattern = rule.client_id if rule.group is None else rule.group
        if pattern == "*":
            self._everyone = self._everyone.adding(rule)
        elif is_pattern(pattern):
            self._pattern_rules.append(rule)
        elif self._has_networks and may_be_network(pattern):
            self._network_rules.append(rule)
        else:
            self._add_exact(rule)

    def index_patterns(self, previous: TenantRules | None, matches: Matches, pace: Pace) -> None:
        """Prepare networks and globs for matching; those unchanged since the previous book are reused.

        `matches` remembers the matches of this book.
        """
        if previous is not None and previous._pattern_rules == self._pattern_rules:
            self._patterns = previous._patterns
        elif self._pattern_rules:
            self._patterns = PatternIndex(_coverages(self._pattern_rules, pace), pace)
        if previous is not None and previous._network_rules == self._network_rules:
            self._networks = previous._networks
        elif self._network_rules:
            earlier = previous._networks if previous is not None else None
            self._networks = NetworkIndex(_coverages(self._network_rules, pace), earlier, pace)
        for rule in self._networks.others if self._networks is not None else ():
            self._add_exact(rule)
        patterns = self._patterns
        if self._networks is not None and self._networks.tried:
            self._match_wide = partial(matches.match, Wide(self._networks, patterns))
        elif patterns is not None:
            self._match_wide = partial(matches.match, patterns) if patterns.has_pieces else patterns.match

    def _add_exact(self, rule: Rule) -> None:
        if rule.endpoint is None:
            self._exact[rule.pattern] = rule
        else:
            self._by_key.setdefault(rule.pattern, {})[rule.endpoint] = rule

    def parts(self) -> tuple[dict[Any, Any], ...]:
        """Return the large collections. Networks and patterns may be shared with another book."""
        return self._exact, self._by_key

    @property
    def tried(self) -> int:
        """The most patterns and prefix lengths to try for one client."""
        return sum(index.tried for index in (self._networks, self._patterns) if index is not None)

    def match(self, client_id: str, limit_key: str) -> Rule | None:
        """Return the most specific rule that covers this check."""
        by_key = self._by_key.get(client_id)
        rule = None if by_key is None else by_key.get(limit_key)
        if rule is None:
            rule = self._exact.get(client_id)
        if rule is None and self._match_wide is not None:
            rule = self._match_wide(client_id, limit_key)
        if rule is None:
            by_key, rule = self._everyone
            rule = by_key.get(limit_key, rule)
        return rule

    def candidates(self, client_id: str) -> list[Rule]:
        """Return every rule that can decide some check of this client, the most specific first."""
        exact = Coverage(self._by_key.get(client_id, {}), self._exact.get(client_id))
        networks: Iterable[Coverage] = self._networks.matching(client_id) if self._networks else ()
        patterns: Iterable[Coverage] = self._patterns.matching(client_id) if self._patterns else ()
        return [rule for coverage in (exact, *networks, *patterns, self._everyone) for rule in coverage.rules()]


class Wide:
    """The index of a tenant with networks, with or without globs."""

    __slots__ = ("_networks", "_patterns")

    def __init__(self, networks: NetworkIndex, patterns: PatternIndex | None) -> None:
        self._networks = networks
        self._patterns = patterns

    def match(self, client_id: str, limit_key: str) -> Rule | None:
        rule = self._networks.match(client_id, limit_key)
        if rule is None and self._patterns is not None:
            rule = self._patterns.match(client_id, limit_key)
        return rule


def _coverages(rules: Sequence[Rule], pace: Pace) -> dict[str, Coverage]:
    """Return the coverage by client or group."""
    coverages: dict[str, Coverage] = {}
    for rule in pace(rules):
        coverage = coverages.get(rule.pattern) or Coverage({}, None)
        coverages[rule.pattern] = coverage.adding(rule)
    return coverages
