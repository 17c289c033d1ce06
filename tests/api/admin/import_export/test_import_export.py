"""Export and import: the same rules again, the diff before the change, and nothing where one rule is wrong."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml

from tests.api.raw_http import exchange, post, problem_of, request
from tests.server.test_pipelines import slow_reader
from tests.support.node import ADMIN_KEY, Node

EXPORT, IMPORT, RULES = "/v1/admin/export", "/v1/admin/import", "/v1/admin/rules"
KEY = f"X-API-Key: {ADMIN_KEY}\r\n".encode()
JSON, YAML = {"Content-Type": "application/json"}, {"Content-Type": "application/yaml"}
FULL: list[dict[str, Any]] = [
    {"client_id": "a", "endpoint": None, "rate": 5, "window": 60},
    {"client_id": "a", "endpoint": "login", "rate": 1, "window": 1, "algorithm": "gcra", "burst": 3},
    {"client_id": "no*", "endpoint": None, "action": "block", "description": "ö: \"quoted\" # and 'more'"},
    {
        "client_id": "089",
        "endpoint": "x",
        "limits": [
            {"rate": 1, "window": 1, "algorithm": None, "burst": None},
            {"rate": 9, "window": 60, "algorithm": "fixed_window", "burst": None},
        ],
        "fail_mode": "closed",
        "shadow": True,
        "enabled": False,
    },
]
MANY = 5_001  # rules: several statements' worth, more than a small file has


@pytest.fixture(autouse=True)
def no_rules(own_node: Node) -> None:
    assert _import(own_node, [], replace="true")["created"] == []


def _import(node: Node, rules: list[dict[str, Any]], **options: str) -> dict[str, Any]:
    answer = node.request("POST", IMPORT, params=options, json={"rules": rules})
    assert answer.status_code == 200, answer.text
    merge: dict[str, Any] = answer.json()
    return merge


def _who(entries: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [(entry["client_id"], entry["endpoint"]) for entry in entries]


def test_what_is_imported_is_exported_again_as_json_and_as_yaml(own_node: Node) -> None:
    _import(own_node, FULL)
    exported = own_node.request("GET", EXPORT)
    assert exported.headers["Content-Type"] == "application/json"
    assert exported.json() == {"rules": FULL}
    assert exported.text.count("\n") == len(FULL) + 2  # a rule a line
    as_yaml = own_node.request("GET", EXPORT, headers={"Accept": "application/yaml"})
    assert as_yaml.headers["Content-Type"] == "application/yaml"
    assert yaml.safe_load(as_yaml.text) == {"rules": FULL}
    for file, kind in ((exported, JSON), (as_yaml, YAML)):
        answer = own_node.request("POST", IMPORT, params={"replace": "true"}, data=file.content, headers=kind)
        merge = answer.json()
        assert [len(merge[name]) for name in ("created", "replaced", "deleted", "unchanged")] == [0, 0, 0, 4]


def test_an_import_merges_and_replaces_only_when_told(own_node: Node) -> None:
    _import(own_node, FULL)
    rules = [FULL[0] | {"rate": 6}, FULL[1], {"client_id": "new", "rate": 1, "window": 1}]
    merge = _import(own_node, rules)
    assert (_who(merge["created"]), _who(merge["replaced"])) == ([("new", None)], [("a", None)])
    assert (merge["deleted"], _who(merge["unchanged"])) == ([], [("a", "login")])
    assert merge["replaced"][0]["changes"] == {"rate": {"from": 5, "to": 6}}
    assert len(own_node.request("GET", RULES).json()) == 5
    merge = _import(own_node, rules, replace="true")
    assert _who(merge["deleted"]) == [("no*", None), ("089", "x")]
    stored = own_node.request("GET", RULES).json()
    assert _who(stored) == [("a", None), ("a", "login"), ("new", None)]
    assert [rule["version"] for rule in stored] == [2, 1, 1]


def test_a_dry_run_answers_the_same_and_changes_nothing(own_node: Node) -> None:
    _import(own_node, FULL)
    before = own_node.request("GET", RULES).json()
    version = own_node.request("GET", "/health", key=None).json()["rules_version"]
    rules = [FULL[0] | {"rate": 6}, {"client_id": "new", "rate": 1, "window": 1}]
    planned = _import(own_node, rules, replace="true", dry_run="true")
    assert own_node.request("GET", RULES).json() == before
    assert own_node.request("GET", "/health", key=None).json()["rules_version"] == version
    done = _import(own_node, rules, replace="true")
    assert (planned.pop("dry_run"), done.pop("dry_run")) == (True, False)
    assert (planned["created"][0].pop("id"), type(done["created"][0].pop("id"))) == (None, int)
    assert planned == done


def test_a_dry_run_is_refused_where_the_import_is(own_node: Node) -> None:
    layers = [{"group": "g", "layer": f"l{number}", "rate": 1, "window": 1} for number in range(9)]
    globs = [{"client_id": f"c{number}*", "rate": 1, "window": 1} for number in range(2001)]
    for rules, told in ((layers, "at most 8 layers"), (globs, "at most 2000 patterns")):
        for dry_run in ("true", "false"):
            answer = own_node.request("POST", IMPORT, params={"dry_run": dry_run}, json={"rules": rules})
            assert told in problem_of(answer, 409)["detail"]


def test_every_rule_of_an_import_has_its_version_and_its_audit_event(own_node: Node) -> None:
    headers = {"X-Correlation-ID": "one-import"}
    own_node.request("POST", IMPORT, json={"rules": FULL}, headers=headers)
    events = own_node.request("GET", "/v1/admin/audit", params={"correlation_id": "one-import"}).json()
    assert [event["action"] for event in events] == ["rule.create"] * 4
    for rule in own_node.request("GET", RULES).json():
        [version] = own_node.request("GET", f"{RULES}/{rule['id']}/versions").json()
        assert (version["version"], version["client_id"]) == (1, rule["client_id"])


GOOD = "- {client_id: good, rate: 1, window: 1}"


@pytest.mark.parametrize(
    ("rules", "where", "line"),
    [
        ("- client_id: b\n  rate: 0\n  window: 60", "rules[1].rate", 4),
        ("- client_id: b\n  rate: 5", "rules[1].window", 3),
        ("- rate: 5\n  window: 60", "rules[1].client_id", 3),
        ("- {client_id: b, rate: 5, window: 1,\n   colour: red}", "rules[1].colour", 4),
        ("- client_id: b\n  limits:\n  - {rate: 1, window: 1}\n  - {rate: 1}", "rules[1].limits[1].window", 6),
        ("- just a text", "rules[1]", 3),
        ("- {client_id: good, rate: 2, window: 2}", "rules[1]", 3),
        ("- {client_id: 5, rate: 1, window: 1}", "rules[1].client_id", 3),
        ("- {client_id: b, rate: 1e9, window: 1}", "rules[1].rate", 3),
    ],
)
def test_an_invalid_file_names_item_line_and_field_and_changes_nothing(
    own_node: Node, rules: str, where: str, line: int
) -> None:
    before = own_node.request("GET", RULES).json()
    as_yaml = f"rules:\n{GOOD}\n{rules}\n"
    answer = own_node.request("POST", IMPORT, params={"replace": "true"}, data=as_yaml, headers=YAML)
    problem = problem_of(answer, 422)
    assert f"line {line}: {where}: " in problem["detail"]
    nest = problem["errors"]
    for step in where.replace("]", "").replace("[", ".").split("."):
        nest = nest[step]
    assert isinstance(nest, list)
    in_json = json.dumps(yaml.safe_load(as_yaml.replace("1e9", '"1e9"')), indent=1)
    refused = problem_of(own_node.request("POST", IMPORT, data=in_json, headers=JSON), 422)
    assert f": {where}: " in refused["detail"]
    assert "line " in refused["detail"]
    assert own_node.request("GET", RULES).json() == before


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"rules: 5", 422),
        (b"rules: []\nversion: 1", 422),
        (b"- a", 422),
        (b"rules: [", 400),
        (b"rules: []\nrules: []", 400),
        (b"rules: &a [*a]", 400),
        (b"rules: !!python/object/apply:os.system [true]", 400),
        (b"\xff", 400),
        (b"[" * 1_000_000, 400),
        (b"{a: " * 250_000, 400),
        (b"rules: [" + b"{}," * 10_001 + b"]", 422),
        (b"rules: [" + b"{}," * 10_000 + b"]", 422),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_file_of_rules_is_refused(own_node: Node, body: bytes, status: int) -> None:
    problem = problem_of(own_node.request("POST", IMPORT, data=body, headers=YAML), status)
    assert len(json.dumps(problem)) < 50_000


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{}", 422),
        (b"[]", 422),
        (b'{"rules": [], "rules": []}', 422),
        (b'{"rules": NaN}', 400),
        (b"[" * 1_000_000, 400),
        (b'{"rules": [{"client_id": "a", "rate": 1, "rate": 2, "window": 1}]}', 422),
    ],
    ids=lambda value: str(value)[:40],
)
def test_json_is_read_as_strictly_as_elsewhere(own_node: Node, body: bytes, status: int) -> None:
    problem_of(own_node.request("POST", IMPORT, data=body, headers=JSON), status)


@pytest.mark.parametrize("kind", [JSON, YAML], ids=["JSON", "YAML"])
@pytest.mark.parametrize("sign", ["", "-"])
def test_a_number_of_thousands_of_digits_is_refused_by_its_name(
    own_node: Node, kind: dict[str, str], sign: str
) -> None:
    file = f'{{"rules": [{{"client_id": "a", "window": 1, "rate": {sign}{"9" * 5000}}}]}}'
    problem = problem_of(own_node.request("POST", IMPORT, data=file, headers=kind), 422)
    assert problem["errors"].keys() == {"rules"}
    assert problem["errors"]["rules"]["0"].keys() == {"rate"}


def test_other_types_and_sizes_are_refused(own_node: Node) -> None:
    problem = problem_of(own_node.request("POST", IMPORT, data=b"rules: []", headers={"Content-Type": "text/x"}), 415)
    assert "application/yaml" in problem["detail"]
    longest = 64 * 1024 * 1024
    announced = exchange(own_node.port, post(IMPORT, b"", KEY, length=longest + 1))
    assert f"allowed are {longest}" in problem_of(announced, 413)["detail"]
    assert "dry_run" in problem_of(own_node.request("POST", IMPORT, params={"dry_run": "yes"}), 422)["errors"]


def test_thousands_of_rules_go_in_and_out(own_node: Node) -> None:
    rules = [{"client_id": f"c{number}", "rate": 1, "window": 1, "description": "d" * 200} for number in range(MANY)]
    assert len(_import(own_node, rules)["created"]) == MANY
    exported = own_node.request("GET", EXPORT, headers={"Accept": "application/yaml"})
    assert exported.headers["Content-Length"] == str(len(exported.content))
    assert len(exported.content) > 1024 * 1024
    options = {"dry_run": "true", "replace": "true"}
    again = own_node.request("POST", IMPORT, params=options, data=exported.content, headers=YAML).json()
    assert [len(again[name]) for name in ("created", "replaced", "deleted", "unchanged")] == [0, 0, 0, MANY]
    changed = [rule | {"rate": 2} for rule in rules]
    assert len(_import(own_node, changed, replace="true")["replaced"]) == MANY
    assert len(_import(own_node, [], replace="true")["deleted"]) == MANY


def test_a_slow_reader_of_a_large_file_keeps_no_other_waiting(own_node: Node) -> None:
    """It reads on all the time, so that the node keeps it; large is a file by its bytes, not by its rules."""
    rules = [{"client_id": f"c{n}", "rate": 1, "window": 1, "description": "\U00010000" * 1000} for n in range(2_000)]
    answered = threading.Event()

    def read_slowly(reader: socket.socket) -> None:
        while not answered.wait(0.05) and reader.recv(16 * 1024):
            pass

    assert len(_import(own_node, rules)["created"]) == len(rules)
    with slow_reader(own_node.port) as reader:
        reader.sendall(request(f"GET {EXPORT}", KEY))
        head = reader.recv(4096)
        assert head.startswith(b"HTTP/1.1 200")
        with ThreadPoolExecutor() as beside:
            slow = beside.submit(read_slowly, reader)
            try:
                file = json.dumps({"rules": FULL}).encode() + b" " * 1024 * 1024
                answer = own_node.request("POST", IMPORT, params={"dry_run": "true"}, data=file, headers=JSON)
                exported = own_node.request("GET", EXPORT)
            finally:
                answered.set()
            slow.result()
    assert (answer.status_code, exported.status_code) == (200, 200)
    assert len(exported.content) > 4_000 * len(rules)


def test_two_large_files_at_once_are_both_answered(own_node: Node) -> None:
    file = json.dumps({"rules": FULL}).encode() + b" " * 1024 * 1024

    def dry_run(_: int) -> int:
        return own_node.request("POST", IMPORT, params={"dry_run": "true"}, data=file, headers=JSON).status_code

    with ThreadPoolExecutor() as at_once:
        assert list(at_once.map(dry_run, range(4))) == [200] * 4
