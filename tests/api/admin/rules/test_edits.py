"""What a change of a rule does to the counters of its clients, by real checks; and how soon it counts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from app.rules.rule import ALGORITHMS, BUCKET_ALGORITHMS
from tests.api.conftest import PutRules
from tests.support.node import Node

DAY = 86400  # so long that no unit comes back during a test
CHANGES = 3


def _rule(client_id: str, rate: int, **fields: Any) -> dict[str, Any]:
    return {"client_id": client_id, "rate": rate, "window": DAY} | fields


def _remaining(node: Node, client_id: str) -> tuple[int, int]:
    peek = node.check(client_id, cost=0)
    return peek["remaining"], peek["limit"]


def test_a_new_rate_keeps_the_units_consumed(node: Node, client: str, put_rules: PutRules) -> None:
    """Used: 6 of 10. At a rate of 20, 8 and 5 that leaves 14, 2 and, clamped, none."""
    expected = {20: (14, 20), 8: (2, 8), 5: (0, 5)}
    cases = {f"{client}-{algorithm}-{rate}": (algorithm, rate) for algorithm in ALGORITHMS for rate in expected}
    put_rules(*(_rule(name, 10, algorithm=algorithm) for name, (algorithm, _) in cases.items()))
    assert [node.check(name, cost=6)["remaining"] for name in cases] == [4] * len(cases)
    put_rules(*(_rule(name, rate, algorithm=algorithm) for name, (algorithm, rate) in cases.items()))
    assert {name: _remaining(node, name) for name in cases} == {
        name: expected[rate] for name, (_, rate) in cases.items()
    }
    allowed = {name: node.check(name, cost=14)["allowed"] for name in cases}
    assert allowed == {name: rate == 20 for name, (_, rate) in cases.items()}


def test_a_new_burst_keeps_the_units_consumed(node: Node, client: str, put_rules: PutRules) -> None:
    expected = {30: (24, 30), 8: (2, 8), 5: (0, 5), None: (4, 10)}
    cases = {
        f"{client}-{algorithm}-{burst}": (algorithm, burst) for algorithm in BUCKET_ALGORITHMS for burst in expected
    }
    put_rules(*(_rule(name, 10, algorithm=algorithm) for name, (algorithm, _) in cases.items()))
    assert [node.check(name, cost=6)["remaining"] for name in cases] == [4] * len(cases)
    put_rules(*(_rule(name, 10, algorithm=algorithm, burst=burst) for name, (algorithm, burst) in cases.items()))
    left = {name: _remaining(node, name) for name in cases}
    assert left == {name: expected[burst] for name, (_, burst) in cases.items()}


def test_what_does_not_touch_a_limit_keeps_its_counter(node: Node, client: str, put_rules: PutRules) -> None:
    [first] = put_rules(_rule(client, 10))
    node.check(client, cost=6)
    [second] = put_rules(_rule(client, 10, description="new", fail_mode="closed"))
    assert (second["id"], second["version"]) == (first["id"], 2)
    assert _remaining(node, client) == (4, 10)


def test_a_new_window_or_algorithm_starts_a_new_counter_and_going_back_another(
    node: Node, client: str, put_rules: PutRules
) -> None:
    rule = {"rate": 10, "window": DAY, "algorithm": "fixed_window"}
    changes: dict[str, dict[str, Any]] = {f"{client}-w": {"window": DAY - 1}, f"{client}-a": {"algorithm": "gcra"}}
    for cost, changed in ((6, False), (7, True), (8, False)):
        put_rules(*({"client_id": name} | rule | (change if changed else {}) for name, change in changes.items()))
        for name in changes:
            assert _remaining(node, name) == (10, 10)
            assert node.check(name, cost=cost)["remaining"] == 10 - cost


def test_deleting_and_creating_starts_a_new_counter(node: Node, client: str, put_rules: PutRules) -> None:
    [first] = put_rules(_rule(client, 10))
    node.check(client, cost=6)
    assert node.request("DELETE", f"/v1/admin/rules/{first['id']}").status_code == 204
    node.await_rules()
    assert node.check(client)["rule_id"] == "default"
    put_rules(_rule(client, 10))
    assert _remaining(node, client) == (10, 10)


def test_limits_that_stay_keep_their_counters_when_others_come_and_go(
    node: Node, client: str, put_rules: PutRules
) -> None:
    day = {"rate": 10, "window": DAY, "algorithm": "gcra"}
    hours = {"rate": 9, "window": DAY // 2, "algorithm": "gcra"}
    put_rules({"client_id": client, "limits": [day]})
    node.check(client, cost=6)
    put_rules({"client_id": client, "limits": [hours, day]})
    assert _remaining(node, client) == (4, 10)
    assert node.check(client, cost=2)["remaining"] == 2
    put_rules({"client_id": client, "limits": [hours]})
    assert _remaining(node, client) == (7, 9)


def test_every_way_to_edit_keeps_and_starts_the_same_counters(node: Node, client: str, put_rules: PutRules) -> None:
    """6 of 10 used, then an edit: what is left, of how much."""
    admin = "/v1/admin/rules"
    edits: dict[str, tuple[Callable[[dict[str, Any]], tuple[str, str, Any]], tuple[int, int]]] = {
        "patch": (lambda rule: ("PATCH", f"{admin}/{rule['id']}", {"rate": 20}), (14, 20)),
        "put": (lambda rule: ("PUT", f"{admin}/{rule['id']}", _rule(rule["client_id"], 20)), (14, 20)),
        "window": (lambda rule: ("PATCH", f"{admin}/{rule['id']}", {"window": DAY - 1}), (10, 10)),
        "algorithm": (lambda rule: ("PATCH", f"{admin}/{rule['id']}", {"algorithm": "gcra"}), (10, 10)),
        "endpoint": (lambda rule: ("PATCH", f"{admin}/{rule['id']}", {"endpoint": "global"}), (4, 10)),
        "import": (
            lambda rule: ("POST", "/v1/admin/import", {"rules": [_rule(rule["client_id"], 20)]}),
            (14, 20),
        ),
        "rollback": (lambda rule: ("POST", f"{admin}/{rule['id']}/rollback", {"version": 1}), (4, 10)),
        "add a limit": (
            lambda rule: (
                "PATCH",
                f"{admin}/{rule['id']}",
                {"limits": [{"rate": 9, "window": DAY - 1}, {"rate": 10, "window": DAY}]},
            ),
            (4, 10),
        ),
    }
    names = {name: f"{client}-{name.replace(' ', '-')}" for name in edits}
    rules = dict(zip(edits, put_rules(*(_rule(name, 10) for name in names.values())), strict=True))
    for name in names.values():
        node.check(name, cost=6)
    for name, (edit, _) in edits.items():
        method, path, body = edit(rules[name])
        assert node.request(method, path, json=body).status_code == 200, name
    node.await_rules()
    left = {name: _remaining(node, names[name]) for name in edits}
    assert left == {name: expected for name, (_, expected) in edits.items()}


def test_a_rule_that_was_off_or_blocked_for_a_while_goes_on_with_its_counter(
    node: Node, client: str, put_rules: PutRules
) -> None:
    [rule] = put_rules(_rule(client, 10))
    node.check(client, cost=6)
    for change in ({"enabled": False}, {"action": "block"}, {"enabled": True}, {"action": "limit"}):
        assert node.request("PATCH", f"/v1/admin/rules/{rule['id']}", json=change).status_code == 200
    node.await_rules()
    assert _remaining(node, client) == (4, 10)


def test_every_worker_decides_by_a_change_within_a_second(node: Node, client: str) -> None:
    """The median of some changes, so that one slow moment of this machine fails nothing."""
    delays = []
    for rate in range(1, CHANGES + 1):
        answer = node.request("POST", "/v1/admin/rules", json=_rule(client, rate))
        assert answer.status_code in (200, 201)
        changed = time.monotonic()
        node.await_rules()
        delays.append(time.monotonic() - changed)
        decided = [node.request("POST", "/v1/check", key=None, json={"client_id": client}) for _ in range(8)]
        assert {decision.json()["limit"] for decision in decided} == {rate}
    assert statistics.median(delays) < 1
