"""Metric series of rules: their labels, and the rules that share a series."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from app.observability.rule_counts import DEFAULT_SERIES, MAX_SERIES, Labels, Series
from app.rules.rule import DEFAULT_LAYER, DEFAULT_RULE_ID, DEFAULT_TENANT_ID, Rule
from app.rules.sync.yielding import Pace

MAX_SERIES_OF_TENANT = MAX_SERIES // 2
# Per label. Longer values are cut: rules that differ only beyond it share a series.
MAX_LABEL = 64  # characters
OTHER = "other"


class RuleSeries:
    """The series of every enabled rule of a book. `rules` are all of its rules, by id.

    A tenant's oldest rules have one series each, at most MAX_SERIES_OF_TENANT. Its later rules share the series
    `other`, and its later shadows have none. If all tenants together exceed MAX_SERIES, each gets an equal share, or
    one series per rule if it has fewer.
    """

    def __init__(self, rules: Mapping[int, Rule], pace: Pace) -> None:
        self._rules = rules
        ids: defaultdict[int, list[int]] = defaultdict(list)
        for rule in pace(rules.values()):
            if _counts(rule):
                ids[rule.tenant_id].append(rule.id)
        share = _share([len(own) for own in ids.values()])
        # By tenant: the last rule with its own series, if not all have one.
        self.last = {tenant_id: sorted(own)[share - 1] for tenant_id, own in ids.items() if len(own) > share}

    def of(self, key: int) -> Series | None:
        """Return the series of a rule id or a series key; None if nothing counts under it."""
        if key == DEFAULT_RULE_ID:
            return DEFAULT_SERIES
        if key < 0:
            return _others(-key) if -key in self.last else None
        rule = self._rules.get(key)
        if rule is None or not _counts(rule):
            return None
        if rule.id > self.last.get(rule.tenant_id, rule.id):
            return None if rule.shadow else _others(rule.tenant_id)
        labels = _labels(rule.tenant_id, rule.pattern, rule.endpoint or "*", rule.layer)
        return Series(rule.id, labels._replace(shadow=True) if rule.shadow else labels)


def _counts(rule: Rule) -> bool:
    return rule.enabled


def _others(tenant_id: int) -> Series:
    return Series(-tenant_id, _labels(tenant_id, OTHER, "*"))


def _labels(tenant_id: int, pattern: str, endpoint: str, layer: str = DEFAULT_LAYER) -> Labels:
    tenant = "" if tenant_id == DEFAULT_TENANT_ID else str(tenant_id)
    return Labels(pattern[:MAX_LABEL], endpoint[:MAX_LABEL], tenant, layer="" if layer == DEFAULT_LAYER else layer)


def _share(counts: list[int]) -> int:
    """Return the most rules of a tenant that have series, so that all tenants together have at most MAX_SERIES."""
    left = MAX_SERIES
    for place, count in enumerate(sorted(counts)):
        share = left // (len(counts) - place)
        if min(count, MAX_SERIES_OF_TENANT) > share:
            return share
        left -= min(count, MAX_SERIES_OF_TENANT)
    return MAX_SERIES_OF_TENANT
