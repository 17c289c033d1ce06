"""Which rules keep others from deciding, and what of that is told; checked against what the book decides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import combinations
from typing import Any

import pytest
from msgspec.structs import replace

from app.rules.matching import hidden_rules
from app.rules.matching.hidden_rules import MAX_PAIRS, MAX_TOLD, hides, warnings
from app.rules.matching.rule_overlap import is_wide
from app.rules.rule import Limit, Rule, default_rule
from app.rules.rule_book import RuleBook, Snapshot


def rule(rule_id: int, client_id: str, endpoint: str | None = None, **fields: object) -> Rule:
    return Rule(id=rule_id, client_id=client_id, endpoint=endpoint, limits=(Limit(5, 60),), **fields)  # type: ignore[arg-type]


LOGIN = rule(1, "*", "login")
PLAN = rule(2, "ann")


@pytest.mark.parametrize(
    ("upper", "lower", "hidden"),
    [
        (PLAN, LOGIN, True),
        (rule(2, "ann", "login"), LOGIN, False),  # which is what rules are for
        (rule(2, "ann", "export"), LOGIN, False),
        (PLAN, rule(1, "*"), False),  # likewise
        (PLAN, rule(1, "a*", "login"), True),
        (PLAN, rule(1, "b*", "login"), False),
        (rule(2, "pro_*"), LOGIN, True),
        (rule(2, "*"), rule(1, "pro_*", "login"), False),  # the longer pattern comes first
        (rule(2, "pro_*"), rule(1, "pr*", "login"), True),
        (rule(2, "pro_*"), rule(1, "*_7", "login"), True),  # pro_7 is of both
        (rule(2, "pro_*"), rule(1, "x*", "login"), False),
        (rule(2, "a*bb*c"), rule(1, "a*c", "login"), True),
        (rule(2, "a*bb*c"), rule(1, "a*d", "login"), False),
        (replace(PLAN, action="block"), LOGIN, False),  # nothing comes through
        (replace(PLAN, action="allow"), LOGIN, True),
        (replace(PLAN, enabled=False), LOGIN, False),
        (replace(PLAN, shadow=True), LOGIN, False),
        (replace(PLAN, shadow=True), replace(LOGIN, shadow=True), True),
        (PLAN, replace(LOGIN, enabled=False), False),
        (PLAN, rule(1, "a*", action="block"), True),
        (rule(2, "ann", "login"), rule(1, "a*", action="block"), True),
        (rule(2, "ann", "login"), rule(1, "ann", action="block"), True),
        (rule(2, "ann", "login"), rule(1, "ann"), False),
        (rule(2, "ann", "login"), rule(1, "a*", "export", action="block"), False),
    ],
    ids=str,
)
def test_a_rule_hides_what_nobody_expects_it_to(upper: Rule, lower: Rule, hidden: bool) -> None:
    assert hides(upper, lower) is hidden


GLOBS = {"*": "x", "ann": "ann", "a*": "an", "*n": "n", "an*": "anx", "a*n": "axn", "b*": "bx", "bob": "bob"}
NETWORKS = {
    "*": "x",
    "ip:10.0.0.0/8": "ip:10.9.9.9",
    "ip:10.1.0.0/16": "ip:10.1.9.9",
    "ip:10.1.2.3": "ip:10.1.2.3",
    "ip:10.1.2.3/32": "ip:::ffff:10.1.2.3",
    "ip:10.*": "ip:10.8.8.8",
    "ip:10.1.*": "ip:10.1.8.8",
    "ip:1*": "ip:172.99.1.1",
    "ip:172.16.0.0/12": "ip:172.20.1.1",
    "ip:172.99.*": "ip:172.99.2.2",
    "ip:2001:db8::/32": "ip:2001:db8:1::/64",
    "ip:2001:db8:1::/48": "ip:2001:db8:1:2::/64",
    "ip:2001:db8:1:*": "ip:2001:db8:1:3::/64",
    "ip:2001:db9:*": "ip:2001:db9::/64",
    "i*": "i",
    "bob": "bob",
}


@pytest.mark.parametrize("patterns", [GLOBS, NETWORKS], ids=["globs", "networks"])
def test_what_is_hidden_is_what_the_book_does_not_decide_by(patterns: dict[str, str]) -> None:
    """Of any two rules: hidden from a client that both are for means that the book prefers the other."""
    clients = [*patterns.values(), "axxn", "bn", "bxn", "anxn"]
    rules = [rule(0, pattern, endpoint) for pattern in patterns for endpoint in (None, "login")]
    for one, two in combinations(rules, 2):
        pair = (replace(one, id=1), replace(two, id=2))
        book = RuleBook(Snapshot(1, b"", pair), default=default_rule(100, 60), algorithm="gcra")
        for upper, lower in (pair, pair[::-1]):
            both = [client for client in clients if {1, 2} <= {each.rule.id for each in book.candidates(1, client)}]
            taken = [client for client in both if book.match(1, client, "login").id == upper.id]
            told = lower.endpoint is not None and upper.endpoint is None and bool(taken)
            assert hides(upper, lower) is (told and is_wide(lower.client_id)), (upper, lower)


def test_a_rule_of_its_own_for_the_endpoint_is_meant() -> None:
    own = rule(3, "ann", "login")
    assert warnings([PLAN], [LOGIN, own]) == ["not for login (rule 3): this client's rules for an endpoint come first"]
    assert warnings([own], [LOGIN, PLAN]) == []
    assert len(warnings([PLAN], [LOGIN, replace(own, shadow=True)])) == 1  # a trial protects nobody


def test_it_says_what_a_rule_hides_what_hides_it_and_what_decides_again() -> None:
    hidden = "rule 1 (*, login) does not decide for ann (rule 2), whose own rule comes first"
    assert warnings([PLAN], [LOGIN]) == [hidden]
    assert warnings([LOGIN], [PLAN]) == [hidden]  # whichever came later
    many = [rule(number, f"c{number}") for number in range(10, 20)]
    [told] = warnings([LOGIN], many)
    assert told.endswith(
        "for c10 (rule 10), c11 (rule 11), c12 (rule 12), c13 (rule 13), c14 (rule 14) and at least 5 more, "
        "whose own rules come first"
    )
    assert warnings([], [LOGIN], before=[PLAN]) == ["rule 1 (*, login) decides for ann again"]
    assert warnings([replace(PLAN, enabled=False)], [LOGIN], before=[PLAN]) == [
        "rule 1 (*, login) decides for ann again"
    ]
    assert warnings([replace(PLAN, version=2)], [LOGIN], before=[PLAN]) == [hidden]
    assert warnings([], [LOGIN, rule(4, "a*")], before=[PLAN]) == []  # which comes between


def test_layers_and_groups_hide_nothing_of_each_other() -> None:
    login = replace(LOGIN, layer="protection")
    assert warnings([PLAN], [login]) == []
    assert warnings([replace(PLAN, layer="protection")], [login]) == [
        "rule 1 (*, login) does not decide for ann (rule 2), whose own rule comes first"
    ]
    assert warnings([login], [PLAN], before=[LOGIN]) == []
    assert warnings([replace(PLAN, layer="org")], [LOGIN], before=[PLAN]) == ["rule 1 (*, login) decides for ann again"]
    assert warnings([rule(3, "", group="*")], [LOGIN, PLAN], before=[rule(3, "", group="*")]) == []


def test_a_network_between_two_others_keeps_the_wider_one_from_deciding_again() -> None:
    login, between = rule(1, "ip:10.0.0.0/8", "login"), rule(4, "ip:10.1.0.0/16")
    for client_id in ("ip:10.1.2.0/24", "ip:10.1.2.3"):
        gone = rule(2, client_id)
        assert warnings([], [login], before=[gone]) == [f"rule 1 (ip:10.0.0.0/8, login) decides for {client_id} again"]
        assert warnings([], [login, between], before=[gone]) == []
    gone, half = rule(2, "ip:10.1.2.0/24"), rule(4, "ip:10.1.2.1*")
    assert len(warnings([], [rule(1, "*", "login"), half], before=[gone])) == 1  # it is not for all of them


@pytest.mark.parametrize("client_id", ["ip:2001:db8::/65", "ip:2001:db8::1"])
def test_a_rule_for_a_part_of_a_subscribers_network_is_told(client_id: str) -> None:
    [told] = warnings([rule(1, client_id)], [])
    assert told.startswith(f"rule 1 ({client_id}, any endpoint) is not for clients that forward authentication names")
    assert warnings([rule(1, "ip:2001:db8::/64"), rule(2, "ip:10.0.0.1/32"), rule(3, "ip:10.0.0.1")], []) == []


def test_a_block_says_where_it_does_not_hold() -> None:
    block = rule(1, "a*", action="block")
    assert warnings([block], [PLAN, rule(3, "ab", "login"), rule(4, "bob")]) == [
        "rule 1 (a*, any endpoint, block) does not decide for ann (rule 2), ab on login (rule 3), "
        "whose own rules come first"
    ]


def test_thousands_of_rules_are_told_in_bounds() -> None:
    plans = [rule(0, f"c{number}") for number in range(10_000)]
    protections = [rule(number, "*", f"e{number}") for number in range(1, 200)]
    told = warnings(plans, protections)
    assert 0 < len(told) <= min(MAX_TOLD, MAX_PAIRS // len(plans))


class Counted:
    """How often a function of `hiding` is called in all, and at most between two chances to rest."""

    def __init__(self, name: str, patch: pytest.MonkeyPatch) -> None:
        self.calls = self.most = self._since = 0
        self._function: Callable[..., Any] = getattr(hidden_rules, name)
        patch.setattr(hidden_rules, name, self)

    def __call__(self, *arguments: Any) -> Any:
        self.calls += 1
        self._since += 1
        self.most = max(self.most, self._since)
        return self._function(*arguments)

    def pace(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self._since = 0
            yield item


def test_thousands_of_deleted_rules_are_compared_in_bounds_and_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = [rule(number, f"gone{number}") for number in range(10, 1010)]
    kept = [rule(number, f"kept{number}") for number in range(2000, 3000)]
    counted = Counted("_stands_between", monkeypatch)
    [told] = warnings([], [LOGIN, *kept], before=gone, pace=counted.pace)
    assert told.startswith("rule 1 (*, login) decides for gone10, gone11, ")
    assert 0 < counted.calls <= MAX_PAIRS
    assert counted.most == 1


def test_thousands_of_rules_are_looked_through_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = {name: Counted(name, monkeypatch) for name in ("is_protection", "is_wide", "_place")}

    def pace(items: Iterable[Any]) -> Iterable[Any]:
        for each in counted.values():
            items = each.pace(items)
        return items

    plans = [rule(number, f"ip:10.0.{number}.0/24") for number in range(2, 102)]
    others = [*plans, rule(900, "ann", "export")]
    assert warnings([rule(1, "*")], others, pace=pace) == []
    assert counted["is_wide"].calls <= 2  # of those for an endpoint
    assert len(warnings([LOGIN], others, pace=pace)) == 1
    assert {name: each.most for name, each in counted.items() if each.most > 2} == {}
