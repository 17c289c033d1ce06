"""Commands know rules for groups, layers and shared counters."""

from __future__ import annotations

import json

from tests.cli.conftest import Cli, json_of

LIMIT = ("--rate", "5", "--window", "60")


def test_a_rule_for_a_group_is_made_shown_edited_and_deleted(cli: Cli, client: str) -> None:
    made = json_of(cli, "rules", "set", "--group", f"{client}*", "--layer", "org", "--shared", *LIMIT)
    assert [made[name] for name in ("client_id", "group", "layer", "shared")] == [None, f"{client}*", "org", True]
    number = str(made["id"])
    [head, line] = cli("rules", "list", "--group", f"{client}*").output.splitlines()
    assert head.split()[2:4] == ["LAYER", "CLIENT"]
    assert f" org    group {client}* " in line
    assert line.endswith("shared")
    assert json_of(cli, "rules", "list", "--layer", "org", "--shared", "--group", f"{client}*") == [made]
    assert json_of(cli, "rules", "list", "--not-shared", "--group", f"{client}*") == []
    said = cli("rules", "edit", number, "--layer", "other", "--not-shared").output.splitlines()
    assert said == [f"rule {number}: version 2", "    layer: org -> other", "    shared: True -> False"]
    said = cli("rules", "edit", number, "--layer", "default").output.splitlines()
    assert said == [f"rule {number}: version 3", "    layer: other -> default"]
    asked = cli("rules", "delete", number, code=1).output
    assert f"Delete rule {number} (group {client}*, any endpoint)" in asked
    assert cli("rules", "delete", number, "--yes").exit_code == 0
    assert f"rule {number} (group {client}*, any endpoint)" in cli("audit", "--group", f"{client}*").output


def test_a_rule_is_for_a_client_or_a_group(cli: Cli) -> None:
    assert "client_id: Missing data for required field" in cli("rules", "set", *LIMIT, code=1).output
    assert "not both" in cli("rules", "set", "a", "--group", "b", *LIMIT, code=1).output
    assert "Allowed are 1 to 32" in cli("rules", "set", "a", "--layer", "Org", *LIMIT, code=1).output
    assert "not both" in cli("templates", "apply", "free", "a", "--group", "b", code=1).output


def test_a_file_and_a_template_for_a_group(cli: Cli, client: str) -> None:
    cli("tenants", "create", client)
    own = ("--tenant", client)
    rules = {"rules": [{"group": "org:*", "layer": "org", "shared": True, "rate": 5, "window": 60}]}
    for command in ("diff", "import"):
        said = cli("rules", command, "-", *own, stdin=json.dumps(rules)).output
        assert said == "+ group org:* * in org\n1 created, 0 replaced, 0 deleted, 0 unchanged\n"
    nine = {"rules": [rules["rules"][0] | {"layer": f"layer-{number}"} for number in range(9)]}
    for options in (["--dry-run"], []):
        said = cli("rules", "import", "-", *own, *options, stdin=json.dumps(nine), code=1).output
        assert "at most 8 layers" in said
    cli("templates", "apply", "signup-protection", "--group", "plan:free", *own)
    assert cli("rules", "export", *own).output.splitlines()[:4] == [
        "rules:",
        '- group: "org:*"',
        "  layer: org",
        "  shared: true",
    ]
    layers = [rule["layer"] for rule in json_of(cli, "rules", "list", "--group", "plan:free", *own)]
    assert layers == ["protection"] * 2
