"""`flask keys|tenants|counters`: what each does, in tables and JSON."""

from __future__ import annotations

import re

import pytest

from tests.cli.conftest import Cli, json_of


def test_keys_are_made_listed_and_revoked(cli: Cli, client: str) -> None:
    made = json_of(cli, "keys", "create", client, "--scope", "check", "--scope", "rules:read")
    assert made["key"].startswith(f"rl_{made['id']}_")
    shown = cli("keys", "create", "other", "--scope", "check", "--expires-at", "2100-01-01")
    assert re.fullmatch(r"rl_\w{8}_[\w-]{43}\n", shown.stdout)  # for KEY=$(flask keys create …)
    listed = cli("keys", "list").output
    assert made["id"] in listed
    assert "check rules:read" in listed
    assert made["key"] not in listed
    assert cli("keys", "revoke", made["id"]).output == f"key {made['id']}: revoked\n"
    assert made["id"] not in [key["id"] for key in json_of(cli, "keys", "list")]
    assert made["id"] in [key["id"] for key in json_of(cli, "keys", "list", "--revoked")]
    cli("keys", "revoke", made["id"], code=1)
    assert (made["maker"], made["owner"]) == (None, f"{client} ({made['id']})")
    line = json_of(cli, "keys", "create", client, "--scope", "check")
    told = cli("keys", "revoke", line["id"], "--children").output
    assert told == f"key {line['id']}: revoked, 1 keys in all\n"
    cli("keys", "revoke", line["id"], "--children", code=1)
    cli("keys", "create", "x", "--scope", "everything", code=2)
    cli("keys", "create", "x", "--scope", "check", "--expires-at", "2001-01-01", code=2)


def test_a_new_hash_secret_revokes_every_key(cli: Cli) -> None:
    cli("keys", "create", "one", "--scope", "check")
    cli("keys", "rotate-secret", stdin="n\n", code=1)
    assert json_of(cli, "keys", "list") != []
    assert "keys revoked" in cli("keys", "rotate-secret", "--yes").output
    assert json_of(cli, "keys", "list") == []


def test_deleting_a_tenant_says_what_goes_with_it_first(cli: Cli, client: str) -> None:
    cli("tenants", "create", client)
    cli("rules", "set", "a", "--tenant", client, "--rate", "1", "--window", "1")
    told = f"Error: Deleting tenant {client} also deletes 1 rule, 0 keys and all its counters. Nothing was changed: "
    assert cli("tenants", "delete", client, code=1).output.startswith(told)
    assert client in cli("tenants", "list").output
    assert cli("tenants", "delete", client, "--yes").output.endswith(": 0 keys deleted in Redis\n")
    assert client not in [tenant["name"] for tenant in json_of(cli, "tenants", "list")]
    assert f"there is no tenant {client}" in cli("rules", "list", "--tenant", client, code=1).output


def test_counters_are_shown_and_reset(cli: Cli, client: str) -> None:
    cli("rules", "set", client, "--limit", "10/60", "--limit", "99/3600/fixed_window")
    shown = json_of(cli, "counters", "show", client)
    assert [(counter["limit"], counter["remaining"]) for counter in shown[:2]] == [(10, 10), (99, 99)]
    assert len(shown) == 2  # not the default, which decides nothing for this client
    assert cli("counters", "show", client).output.split()[:3] == ["RULE", "CLIENT", "ENDPOINT"]
    assert cli("counters", "reset", client, "--limit-key", "x").output == f"client {client}: 2 counters reset\n"


@pytest.mark.parametrize(
    "words", [("show", ""), ("reset", ""), ("reset", "somebody", "--limit-key", ""), ("reset", "n" * 257)]
)
def test_counters_of_nobody_are_refused(cli: Cli, words: tuple[str, ...]) -> None:
    assert "Length must be between 1 and" in cli("counters", *words, code=1).output
