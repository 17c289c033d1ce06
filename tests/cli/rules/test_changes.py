"""Changes from the shell lose nothing that they do not name: what would go is shown and asked about, or kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.conftest import AtTerminal, Cli, json_of
from tests.support.hiding import hidden_after_changes

BIG = ("--limit", "1000/60/sliding_window", "--limit", "50000/86400/fixed_window", "--fail-mode", "closed")
NOTE = ("--description", "contract 4711, ask Jane")


def _rule(cli: Cli, client: str, *fields: str) -> dict[str, Any]:
    rule: dict[str, Any] = json_of(cli, "rules", "set", client, *fields)
    return rule


def _read(cli: Cli, number: object) -> dict[str, Any]:
    rule: dict[str, Any] = json_of(cli, "rules", "show", str(number))
    return rule


def _decides(cli: Cli, client: str, key: str = "global") -> dict[str, Any]:
    winner: dict[str, Any] = json_of(cli, "explain", client, key)[0]
    return winner


def test_set_shows_what_it_would_lose_and_loses_nothing_unasked(cli: Cli, client: str, at_terminal: AtTerminal) -> None:
    rule = _rule(cli, client, *BIG, *NOTE)
    asked = ("rules", "set", client, "--rate", "2000", "--window", "60")
    said = cli(*asked, code=1).output.splitlines()
    assert said[:-1] == [
        f"rule {rule['id']} has fields that this command does not name:",
        "    fail_mode: closed -> None",
        "    description: contract 4711, ask Jane -> ",
        "    limits[0].algorithm: sliding_window -> None",
        "    limits[1].rate: 50000 -> None",
        "    limits[1].window: 86400 -> None",
        "    limits[1].algorithm: fixed_window -> None",
    ]
    assert said[-1].startswith("Error: Replace it? ")
    assert f"`rules edit {rule['id']}`" in said[-1]
    code, _ = at_terminal(*asked, answer="n\n")
    assert (code, _read(cli, rule["id"])) == (1, rule)
    code, said = at_terminal(*asked, answer="y\n")
    assert (code, said.endswith(f"rule {rule['id']}: replaced, version 2\n")) == (0, True), said


def test_set_asks_nothing_where_all_that_changes_is_named(cli: Cli, client: str) -> None:
    _rule(cli, client, "--rate", "5", "--window", "60", "--fail-mode", "closed")
    named = ("--rate", "6", "--window", "60", "--fail-mode", "closed", *NOTE)
    assert cli("rules", "set", client, *named).output.endswith(": replaced, version 2\n")
    one = ("--limit", "7/1", "--fail-mode", "default", "--description", "")
    assert cli("rules", "set", client, *one).output.endswith(": replaced, version 3\n")


def test_set_unblocks_nobody_unasked(cli: Cli, client: str) -> None:
    _rule(cli, client, "--action", "block")
    refused = cli("rules", "set", client, "--rate", "5", "--window", "60", code=1).output
    assert "    action: block -> limit\n" in refused
    assert _decides(cli, client)["action"] == "block"
    cli("rules", "set", client, "--rate", "5", "--window", "60", "--yes")
    assert _decides(cli, client)["action"] == "limit"


def test_edit_changes_what_is_named_and_keeps_the_rest(cli: Cli, client: str) -> None:
    rule = _rule(cli, client, *BIG, *NOTE)
    number = str(rule["id"])
    assert cli("rules", "edit", number, "--rate", "2000").output == (
        f"rule {number}: version 2\n    limits[0].rate: 1000 -> 2000\n"
    )
    first, second = rule["limits"]
    assert _read(cli, number)["limits"] == [first | {"rate": 2000}, second]
    kept = {name: _read(cli, number)[name] for name in ("fail_mode", "description", "action", "enabled")}
    assert kept == {name: rule[name] for name in kept}
    edits = ("--fail-mode", "default", "--algorithm", "gcra", "--burst", "3000", "--description", "", "--disabled")
    edited = json_of(cli, "rules", "edit", number, *edits)
    assert (edited["fail_mode"], edited["description"], edited["enabled"]) == (None, "", False)
    assert edited["limits"] == [first | {"rate": 2000, "algorithm": "gcra", "burst": 3000}, second]
    edited = json_of(cli, "rules", "edit", number, "--burst", "0", "--limit", "5/60", "--enabled")
    assert (edited["enabled"], [limit["rate"] for limit in edited["limits"]]) == (True, [5])


@pytest.mark.parametrize(
    ("fields", "code", "told"),
    [
        ((), 2, "name at least one field"),
        (("--rate", "0"), 1, "limits[0].rate: Must be greater than or equal to 1"),
        (("--window", "0"), 1, "window"),
        (("--limit", "5/60", "--rate", "6"), 1, "Give either limits or rate and window"),
    ],
)
def test_an_edit_that_cannot_be_meant_changes_nothing(
    cli: Cli, client: str, fields: tuple[str, ...], code: int, told: str
) -> None:
    rule = _rule(cli, client, *BIG)
    assert told in cli("rules", "edit", str(rule["id"]), *fields, code=code).output
    assert _read(cli, rule["id"]) == rule


def test_a_block_is_one_command_for_all_endpoints_and_so_is_its_end(cli: Cli, client: str) -> None:
    """Also where the client has rules for an endpoint, which come before its rule for any."""
    plan = _rule(cli, client, "--rate", "5", "--window", "60", *NOTE)
    login = _rule(cli, client, "--endpoint", "login", "--limit", "1/1", "--limit", "9/60")
    asleep = _rule(cli, client, "--endpoint", "export", "--rate", "5", "--window", "60", "--disabled")
    said = cli("rules", "block", client).output
    assert said == f"client {client}: blocked (2 rules: {plan['id']}, {login['id']})\n"
    for key in ("global", "login", "export"):
        assert _decides(cli, client, key)["action"] == "block"
    assert _read(cli, login["id"]) == _read(cli, login["id"]) | {"limits": login["limits"], "action": "block"}
    assert cli("rules", "block", client).output == said  # again: nothing changes
    assert _read(cli, plan["id"])["version"] == 2
    cli("rules", "edit", str(plan["id"]), "--rate", "7")
    cli("rules", "unblock", client)
    for before, change in ((plan, {"rate": 7}), (login, {}), (asleep, {})):
        after = _read(cli, before["id"])
        changed = before | change | {name: after[name] for name in ("version", "updated_at", "limits")}
        assert after == changed
    assert _decides(cli, client, "login")["rule_id"] == login["id"]
    assert cli("rules", "unblock", client).output == f"client {client}: no rule of its own blocks it\n"


def test_a_rule_that_was_made_to_block_goes_with_the_block(cli: Cli, client: str) -> None:
    for _ in range(2):
        cli("rules", "block", client)
        assert _decides(cli, client)["action"] == "block"
        cli("rules", "unblock", client)
        assert json_of(cli, "rules", "list", "--client-id", client) == []


def test_a_rule_that_has_never_done_but_block_is_only_disabled(cli: Cli, client: str) -> None:
    rule = _rule(cli, client, "--action", "block", *NOTE)
    cli("rules", "unblock", client)
    assert _read(cli, rule["id"])["enabled"] is False
    cli("rules", "block", client)
    assert _decides(cli, client)["rule_id"] == rule["id"]
    cli("rules", "unblock", client)
    assert _decides(cli, client)["rule_id"] == "default"


def test_a_disabled_rule_is_disabled_again_after_the_block(cli: Cli, client: str) -> None:
    rule = _rule(cli, client, "--rate", "5", "--window", "60", "--disabled")
    cli("rules", "block", client)
    assert _decides(cli, client)["action"] == "block"
    cli("rules", "unblock", client)
    assert (_read(cli, rule["id"])["enabled"], _read(cli, rule["id"])["action"]) == (False, "limit")


def test_a_block_names_who_still_gets_in_and_its_end_what_still_blocks(cli: Cli, client: str) -> None:
    one = _rule(cli, f"{client}-1", "--endpoint", "login", "--rate", "5", "--window", "60")
    said = cli("rules", "block", f"{client}*")
    assert said.stderr.endswith(
        f" does not decide for {client}-1 on login (rule {one['id']}), whose own rule comes first\n"
    )
    blocked = json_of(cli, "rules", "list", "--client-id", f"{client}*")[0]["id"]
    cli("rules", "block", f"{client}-1")
    still = cli("rules", "unblock", f"{client}-1").stderr
    assert still == f"rule {blocked} ({client}*, any endpoint, block) still blocks it\n"


def test_a_shadow_is_promoted_into_the_place_of_its_twin(cli: Cli, client: str, at_terminal: AtTerminal) -> None:
    rule = _rule(cli, client, "--limit", "10/60/fixed_window", "--fail-mode", "closed", *NOTE)
    shadow = _rule(cli, client, "--limit", "3/60/fixed_window", "--limit", "9/3600", "--shadow")
    asked = ("rules", "promote", str(shadow["id"]))
    refused = cli(*asked, code=1).output
    assert f"rule {rule['id']} ({client}, any endpoint) becomes:\n    limits[0].rate: 10 -> 3\n" in refused
    assert (_read(cli, rule["id"]), _read(cli, shadow["id"])) == (rule, shadow)
    code, said = at_terminal(*asked, answer="y\n")
    assert code == 0, said
    assert f"rule {rule['id']}: version 2 is enforced\n" in said
    now = _read(cli, rule["id"])
    kept = {name: rule[name] for name in ("id", "client_id", "fail_mode", "description", "created_at")}
    assert now.items() >= (kept | {"shadow": False, "limits": shadow["limits"]}).items()
    assert [version["change"] for version in json_of(cli, "rules", "history", str(rule["id"]))] == [
        "rule.promote",
        "rule.create",
    ]
    assert "there is no rule" in cli("rules", "show", str(shadow["id"]), code=1).output
    for number, told in (
        (rule["id"], "is not a shadow rule: it is enforced already"),
        (shadow["id"], "there is no rule"),
    ):
        assert told in cli("rules", "promote", str(number), "--yes", code=1).output


def test_a_shadow_alone_is_promoted_where_it_is(cli: Cli, client: str) -> None:
    shadow = _rule(cli, client, "--rate", "3", "--window", "60", "--shadow", "--disabled")
    number = str(shadow["id"])
    assert "enable it first" in cli("rules", "promote", number, "--yes", code=1).output
    cli("rules", "edit", number, "--enabled")
    assert cli("rules", "promote", number, "--yes").output.startswith(f"rule {number}: version 3 is enforced\n")
    assert _decides(cli, client)["rule_id"] == shadow["id"]


def test_a_plan_names_the_protection_that_it_switches_off(cli: Cli, client: str) -> None:
    """The operator's trap at night: a rule for the customer, so that it can go on, also lifts what protects log-in."""
    cli("tenants", "create", client)
    own = ("--tenant", client)
    cli("rules", "set", "*", "--endpoint", "login", "--rate", "5", "--window", "60", *own)
    [protection] = json_of(cli, "rules", "list", *own)
    named = f"rule {protection['id']} (*, login)"
    said = cli("templates", "apply", "pro", "ann", *own)
    assert said.stderr.startswith(f"{named} does not decide for ann (rule ")
    said = cli("rules", "set", "bob", "--rate", "1000", "--window", "60", *own)
    assert said.stderr.startswith(f"{named} does not decide for bob (rule ")
    [plan] = json_of(cli, "rules", "list", "--client-id", "bob", *own)
    explained = cli("explain", "bob", *own).output
    assert explained.splitlines()[0] == f"rule {plan['id']} (bob, any endpoint) decides: 1000/60s token_bucket"
    assert f"it also decides for login, instead of {named}\n" in explained
    assert cli("rules", "delete", str(plan["id"]), "--yes", *own).stderr == f"{named} decides for bob again\n"
    rules = json.dumps({"rules": [{"client_id": "cyd", "action": "allow"}]})
    for command in ("diff", "import"):
        assert f"{named} does not decide for cyd" in cli("rules", command, "-", *own, stdin=rules).stderr


def test_a_template_shows_what_it_replaces_and_asks(cli: Cli, client: str) -> None:
    rule = _rule(cli, client, *BIG, *NOTE)
    refused = cli("templates", "apply", "free", client, code=1).output
    assert f"rule {rule['id']} ({client}, any endpoint):\n    fail_mode: closed -> None\n" in refused
    assert _read(cli, rule["id"]) == rule
    cli("templates", "apply", "free", client, "--yes")
    assert [limit["rate"] for limit in _read(cli, rule["id"])["limits"]] == [60, 1000]
    assert cli("templates", "apply", "free", client).exit_code == 0  # nothing to replace any more


def test_commands_know_networks(cli: Cli) -> None:
    rule = _rule(cli, "ip:192.0.2.0/24", "--rate", "5", "--window", "60")
    assert _decides(cli, "ip:192.0.2.7")["rule_id"] == rule["id"]
    said = cli("rules", "block", "ip:192.0.2.128/25").output
    assert said.startswith("client ip:192.0.2.128/25: blocked (1 rule: ")
    assert _decides(cli, "ip:192.0.2.200")["action"] == "block"
    assert cli("rules", "unblock", "ip:192.0.2.128/25").exit_code == 0
    for command in (("set", "ip:192.0.2.1/24", "--rate", "5", "--window", "60"), ("block", "ip:192.0.2.1/24")):
        assert "This network is written ip:192.0.2.0/24." in cli("rules", *command, code=1).output


def test_a_change_is_said_where_the_database_fails_before_its_warnings_are_told(
    cli: Cli, environment: dict[str, str], client: str
) -> None:
    limit = ("--rate", "5", "--window", "60")
    cli("rules", "set", f"{client}*", *limit, "--endpoint", "login")
    number = _rule(cli, client, *limit)["id"]
    with hidden_after_changes(environment["DATABASE_URL"]) as show:
        for command in (
            ("rules", "set", f"{client}-1", *limit),
            ("rules", "edit", str(number), "--rate", "6"),
            ("rules", "block", f"{client}-2"),
            ("templates", "apply", "pro", f"{client}-3"),
        ):
            said = cli(*command)
            assert said.stdout
            assert "login" not in said.output
            show()
