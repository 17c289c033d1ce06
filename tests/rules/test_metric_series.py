"""Which rules have series of their own: bounded for a tenant and for all, the same on every worker, fair."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from app.observability.rule_counts import DEFAULT_SERIES, MAX_SERIES, Labels, Series
from app.rules.metric_series import MAX_LABEL, MAX_SERIES_OF_TENANT, RuleSeries
from app.rules.rule import DEFAULT_TENANT_ID, Limit, Rule
from app.rules.sync.yielding import unpaced

LIMITS = (Limit(5, 60, "gcra"),)


def rule(rule_id: int, tenant_id: int = DEFAULT_TENANT_ID, client_id: str = "x", **fields: object) -> Rule:
    return Rule(id=rule_id, tenant_id=tenant_id, client_id=client_id, limits=LIMITS, **fields)  # type: ignore[arg-type]


def series_of(*rules: Rule) -> RuleSeries:
    return RuleSeries({rule.id: rule for rule in rules}, unpaced)


def test_labels_are_those_of_the_rule_cut_and_with_the_tenant() -> None:
    subject = series_of(
        rule(1, client_id="premium_*"),
        rule(2, client_id="é" * 250, endpoint="k" * 128),
        rule(3, tenant_id=7, client_id="premium_*", endpoint="login"),
    )
    assert subject.of(1) == Series(1, Labels("premium_*", "*", ""))
    assert subject.of(2) == Series(2, Labels("é" * MAX_LABEL, "k" * MAX_LABEL, ""))
    assert subject.of(3) == Series(3, Labels("premium_*", "login", "7"))
    assert subject.of(0) == DEFAULT_SERIES


def test_labels_name_the_group_and_any_layer_but_the_default() -> None:
    subject = series_of(
        rule(1, client_id="", group="org:*"),
        rule(2, client_id="a", layer="protection", endpoint="login"),
    )
    assert subject.of(1) == Series(1, Labels("org:*", "*"))
    assert subject.of(2) == Series(2, Labels("a", "login", layer="protection"))


def test_rules_that_decide_nothing_have_none() -> None:
    subject = series_of(rule(1, enabled=False), rule(2, shadow=True, enabled=False))
    assert [subject.of(key) for key in (1, 2, 3, -1, -2)] == [None] * 5


def test_a_shadow_has_a_series_that_is_told_from_its_twins() -> None:
    subject = series_of(rule(1), rule(2, shadow=True))
    assert [subject.of(key) for key in (1, 2)] == [
        Series(1, Labels("x", "*", "")),
        Series(2, Labels("x", "*", "", shadow=True)),
    ]


def test_later_shadows_of_very_many_rules_are_counted_nowhere() -> None:
    rules = [rule(number, shadow=number > MAX_SERIES_OF_TENANT) for number in range(1, MAX_SERIES_OF_TENANT + 2)]
    assert series_of(*rules).of(MAX_SERIES_OF_TENANT + 1) is None


def test_a_tenants_later_rules_are_counted_together() -> None:
    count = MAX_SERIES_OF_TENANT + 3
    subject = series_of(*(rule(n, client_id=str(n)) for n in range(1, count + 1)), rule(count + 1, tenant_id=2))
    own = [subject.of(n) for n in range(1, MAX_SERIES_OF_TENANT + 1)]
    assert own == [Series(n, Labels(str(n), "*")) for n in range(1, MAX_SERIES_OF_TENANT + 1)]
    other = Series(-1, Labels("other", "*"))
    assert [subject.of(key) for key in (-1, *range(MAX_SERIES_OF_TENANT + 1, count + 1))] == [other] * 4
    assert subject.of(count + 1) == Series(count + 1, Labels("x", "*", "2"))


@settings(max_examples=20)
@given(counts=st.lists(st.integers(1, MAX_SERIES_OF_TENANT + 99), min_size=1, max_size=6))
def test_no_tenant_takes_what_another_needs(counts: list[int]) -> None:
    """The most that can be shared out: who has less than an equal share has all, the others have the same."""
    rules, first = [], 1
    for tenant_id, count in enumerate(counts, start=1):
        rules += [rule(n, tenant_id) for n in range(first, first + count)]
        first += count
    subject = series_of(*rules)
    own = dict.fromkeys(range(1, len(counts) + 1), 0)
    for each in rules:
        found = subject.of(each.id)
        assert found is not None
        own[each.tenant_id] += found.key == each.id
    share = max(own.values())
    assert sum(own.values()) <= MAX_SERIES
    assert share <= MAX_SERIES_OF_TENANT
    for tenant_id, count in enumerate(counts, start=1):
        assert own[tenant_id] in (count, share)
    if any(own[tenant_id] < min(count, MAX_SERIES_OF_TENANT) for tenant_id, count in enumerate(counts, start=1)):
        assert sum(own.values()) > MAX_SERIES - len(counts)  # nothing is left over
