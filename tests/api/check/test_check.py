"""POST /v1/check: what an answer says."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.api.conftest import PutRules
from tests.support.node import Node

HOUR = 3600  # a quota that does not come back while a test runs
FIELDS = {
    "allowed": bool,
    "remaining": int,
    "retry_after_ms": int,
    "limit": int,
    "window": int,
    "reset_at": float,
    "algorithm": str,
    "rule_id": str,
    "reason": str,
    "degraded": bool,
}
WITHOUT_A_WEIGHT = ("token_bucket", "fixed_window", "sliding_window", "gcra")
Rules = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def rules(put_rules: PutRules) -> Rules:
    """Rules by name, each for the clients of `check-<name>-*`."""
    fixed = {"rate": 10, "window": HOUR, "algorithm": "fixed_window"}
    table: Rules = {
        "ten": fixed,
        "burst": {"rate": 10, "window": HOUR, "algorithm": "token_bucket", "burst": 25},
        "small": {"rate": 10, "window": HOUR, "algorithm": "gcra", "burst": 4},
        "allow": {"action": "allow"},
        "block": {"action": "block"},
        "global": fixed | {"endpoint": "global"},
    }
    table |= {algorithm: {"rate": 5, "window": HOUR, "algorithm": algorithm} for algorithm in WITHOUT_A_WEIGHT}
    stored = put_rules(*({"client_id": f"check-{name}-*"} | rule for name, rule in table.items()))
    return dict(zip(table, stored, strict=True))


def _shown(decision: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(decision[name] for name in names)


def test_an_answer_has_exactly_the_fields_of_the_contract_in_their_types(node: Node, client: str) -> None:
    decision = node.check(client)
    assert {name: type(value) for name, value in decision.items()} == FIELDS


def test_a_client_without_a_rule_gets_the_built_in_default(node: Node, client: str) -> None:
    before = time.time()
    decision = node.check(client)
    after = time.time()
    refill_of_one = 60 / 100
    assert before + refill_of_one - 0.001 <= decision.pop("reset_at") <= after + refill_of_one + 0.001
    assert decision == {
        "allowed": True,
        "remaining": 99,
        "retry_after_ms": 0,
        "limit": 100,
        "window": 60,
        "algorithm": "token_bucket",
        "rule_id": "default",
        "reason": "within_limit",
        "degraded": False,
    }


def test_the_example_rules_decide_as_their_table_says(node: Node) -> None:
    table = {("client_a", "other"): 100, ("client_a", "login"): 20, ("client_a", "register"): 10, ("client_b", "x"): 50}
    for (client_id, limit_key), rate in table.items():
        assert _shown(node.check(client_id, limit_key, cost=0), "limit", "window") == (rate, 60)


def test_without_a_limit_key_the_key_is_global(node: Node, client: str, rules: Rules) -> None:
    client = f"check-global-{client}"
    assert node.check(client)["rule_id"] == rules["global"]["id"]
    assert node.check(client, "global")["remaining"] == 8
    assert node.check(client, "Global")["rule_id"] == "default"


def test_cost_is_one_by_default_and_what_is_sent_otherwise(node: Node, client: str, rules: Rules) -> None:
    costs: list[dict[str, Any]] = [{}, {"cost": 1}, {"cost": 3}, {"cost": 5}]
    assert [node.check(f"check-ten-{client}", **cost)["remaining"] for cost in costs] == [9, 8, 5, 0]


def test_a_peek_answers_and_consumes_nothing(node: Node, client: str, rules: Rules) -> None:
    client = f"check-ten-{client}"
    for used in range(11):
        peek = node.check(client, cost=0)
        assert _shown(peek, "allowed", "remaining", "retry_after_ms", "reason") == (True, 10 - used, 0, "within_limit")
        assert peek["rule_id"] == rules["ten"]["id"]
        node.check(client)


@pytest.mark.parametrize("algorithm", WITHOUT_A_WEIGHT)
def test_a_denial_is_an_answer_and_consumes_nothing(node: Node, client: str, rules: Rules, algorithm: str) -> None:
    client = f"check-{algorithm}-{client}"
    assert node.check(client, cost=3)["remaining"] == 2
    for _ in range(3):
        denial = node.check(client, cost=4)
        assert _shown(denial, "allowed", "remaining", "limit", "window") == (False, 2, 5, HOUR)
        assert _shown(denial, "reason", "algorithm", "rule_id") == ("over_limit", algorithm, rules[algorithm]["id"])
        assert 0 < denial["retry_after_ms"] <= HOUR * 1000
    assert node.check(client, cost=2)["remaining"] == 0


def test_a_cost_above_the_limit_never_fits(node: Node, client: str, rules: Rules) -> None:
    denial = node.check(f"check-ten-{client}", cost=11)
    assert _shown(denial, "allowed", "reason", "retry_after_ms", "remaining") == (False, "cost_exceeds_limit", None, 10)
    assert node.check(f"check-ten-{client}", cost=10)["allowed"]


def test_the_limit_of_a_bucket_is_its_burst(node: Node, client: str, rules: Rules) -> None:
    assert _shown(node.check(f"check-burst-{client}", cost=25), "allowed", "remaining", "limit") == (True, 0, 25)
    assert _shown(node.check(f"check-small-{client}", cost=5), "reason", "limit") == ("cost_exceeds_limit", 4)


@pytest.mark.parametrize("cost", [1, 1_000_000_000])
def test_an_allow_rule_never_limits_and_a_block_rule_always_denies(
    node: Node, client: str, rules: Rules, cost: int
) -> None:
    names = ("allowed", "retry_after_ms", "reason", "rule_id", "algorithm", "degraded")
    for _ in range(3):
        allowed, blocked = (node.check(f"check-{action}-{client}", cost=cost) for action in ("allow", "block"))
        assert _shown(allowed, *names) == (True, 0, "allowed_by_rule", rules["allow"]["id"], None, False)
        assert _shown(blocked, *names) == (False, None, "blocked_by_rule", rules["block"]["id"], None, False)
        assert blocked["remaining"] == 0 < allowed["remaining"]
        assert set(allowed) == set(blocked) == set(FIELDS)


def test_ids_are_literal_and_any_characters_that_are_no_controls(node: Node, client: str, rules: Rules) -> None:
    ends = ["*", "**", "a", "A", " a", "ä", "a\u0308", "🦊:/{}", "\u00a0", "%61"]
    assert [node.check(f"check-ten-{client}{end}")["remaining"] for end in ends] == [9] * len(ends)


def test_reset_at_is_when_everything_is_back(node: Node, client: str, rules: Rules) -> None:
    client = f"check-ten-{client}"
    first = node.check(client)
    assert node.check(client, cost=2)["reset_at"] == pytest.approx(first["reset_at"], abs=0.001)
    before = time.time()
    denial = node.check(client, cost=8)
    after = time.time()
    assert denial["reset_at"] == pytest.approx(first["reset_at"], abs=0.001)
    # A fixed window ends for all of its units at once, so the wait from now ends there too.
    assert before - 0.01 <= denial["reset_at"] - denial["retry_after_ms"] / 1000 <= after + 0.01
