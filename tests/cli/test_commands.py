"""`flask rules`: what each command does, in tables and JSON, and what it asks before."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg2

from app.version import __version__
from tests.cli.conftest import AtTerminal, Cli, flask, json_of
from tests.support.node import ROOT


def test_the_version_is_the_services_own(cli: Cli) -> None:
    assert cli("version").output == f"{__version__}\n"


def test_a_rule_is_set_shown_listed_replaced_and_deleted(cli: Cli, client: str) -> None:
    created = json_of(cli, "rules", "set", client, "--endpoint", "login", "--rate", "5", "--window", "60")
    number = str(created["id"])
    assert json_of(cli, "rules", "show", number) == created
    assert json_of(cli, "rules", "list", "--client-id", client) == [created]
    limits = ("--limit", "1/1/gcra/3", "--limit", "100/3600")
    said = cli("rules", "set", client, "--endpoint", "login", *limits, "--fail-mode", "closed", "--shadow").output
    assert "created" in said  # a shadow stands beside the rule
    said = cli("rules", "set", client, "--endpoint", "login", *limits, "--description", "two").output
    assert said == f"rule {number}: replaced, version 2\n"
    table = cli("rules", "list", "--client-id", client).output.splitlines()
    assert table[0].split() == ["ID", "VERSION", "LAYER", "CLIENT", "ENDPOINT", "ACTION", "LIMITS", "NOTES"]
    assert re.search(rf"^{number} +2 +default +{client} +login +limit +1/1s gcra burst 3, 100/3600s +two$", table[1])
    assert "shadow, fail closed" in table[2]
    assert "1/1s gcra burst 3" in cli("rules", "show", number).output
    assert cli("rules", "delete", number, "--yes").output == f"rule {number}: deleted\n"
    assert "there is no rule" in cli("rules", "show", number, code=1).output


def test_a_reader_that_has_enough_ends_a_command_without_a_word(environment: dict[str, str]) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    words = [sys.executable, "-m", "flask", "--app", "wsgi", "rules", "export"]
    own = {"PATH": os.environ["PATH"]} | environment
    with open(theirs, "wb") as closed:
        ended = subprocess.run(words, cwd=ROOT, env=own, stdout=closed, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (1, b"")


def test_a_deletion_names_the_rule_before_it_asks(cli: Cli, client: str, at_terminal: AtTerminal) -> None:
    number = str(json_of(cli, "rules", "set", client, "--endpoint", "login", "--rate", "5", "--window", "60")["id"])
    question = f"Delete rule {number} ({client}, login) and its versions?"
    refused = cli("rules", "delete", number, stdin="y\n", code=1).output
    assert refused == f"Error: {question} Nothing was changed: without a terminal this needs --yes\n"
    code, said = at_terminal("rules", "delete", number, answer="n\n")
    assert (code, said.startswith(f"{question} [y/N]: ")) == (1, True), said
    code, said = at_terminal("rules", "delete", number, answer="y\n")
    assert (code, said.endswith(f"rule {number}: deleted\n")) == (0, True), said
    assert cli("rules", "delete", number, code=1).output == f"Error: there is no rule {number}\n"  # asks nothing


def test_a_rule_for_a_client_names_the_rules_that_decide_before_it(cli: Cli, client: str) -> None:
    limit = ("--rate", "5", "--window", "60")
    for endpoint, more in (("login", ()), ("search", ("--shadow",)), ("export", ("--disabled",))):
        cli("rules", "set", client, "--endpoint", endpoint, *limit, *more)
    [login, *_] = json_of(cli, "rules", "list", "--client-id", client)
    told = f"not for login (rule {login['id']}): this client's rules for an endpoint come first\n"
    said = cli("rules", "set", client, "--action", "block")
    assert said.stdout.endswith(": created\n")
    assert said.stderr == told
    assert cli("rules", "set", client, *limit, "--action", "limit", "--json").stderr == told
    assert cli("rules", "set", client, *limit, "--disabled").stderr == ""
    assert cli("rules", "set", client, "--endpoint", "other", *limit).stderr == ""


def test_history_and_rollback(cli: Cli, client: str) -> None:
    number = str(json_of(cli, "rules", "set", client, "--rate", "5", "--window", "60")["id"])
    cli("rules", "set", client, "--rate", "6", "--window", "60")
    assert cli("rules", "rollback", number, "1").output == f"rule {number}: version 3 restores version 1\n"
    lines = cli("rules", "history", number).output.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == ["VERSION", "3", "2", "1"]
    assert lines[0].split() == ["VERSION", "TIME", "CHANGE", "BY"]
    assert lines[0].index("CHANGE") == lines[1].index("rule.rollback")
    assert "    rate: 5 -> 6" in lines
    assert [version["rate"] for version in json_of(cli, "rules", "history", number)] == [5, 6, 5]
    assert "has no version 9" in cli("rules", "rollback", number, "9", code=1).output
    assert "there is no rule 0" in cli("rules", "history", "0", code=1).output


def test_no_transaction_waits_for_a_person(
    cli: Cli, client: str, at_terminal: AtTerminal, tmp_path: Path, environment: dict[str, str]
) -> None:
    """PostgreSQL ends those that idle for 5 s, and with it what the person has agreed to."""
    file = tmp_path / "rules.yaml"
    file.write_text("rules: []\n")
    cli("tenants", "create", client)
    number = str(json_of(cli, "rules", "set", client, "--tenant", client, "--rate", "5", "--window", "60")["id"])
    asking = (
        ("rules", "set", client, "--action", "block"),
        ("rules", "import", str(file), "--replace"),
        ("rules", "delete", number),
    )
    idle = list[Any]()

    def look() -> None:
        with contextlib.closing(psycopg2.connect(environment["DATABASE_URL"])) as connection:
            cursor = connection.cursor()
            cursor.execute(
                "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND xact_start < now()"
            )
            idle.extend(cursor.fetchall())

    for command in asking:
        code, said = at_terminal(*command, "--tenant", client, answer="n\n", while_asked=look)
        assert (code, "[y/N]" in said) == (1, True), said
    assert idle == []


def test_pruning_keeps_what_the_settings_say(cli: Cli, client: str, environment: dict[str, str]) -> None:
    number = str(json_of(cli, "rules", "set", client, "--rate", "1", "--window", "1")["id"])
    for rate in range(2, 8):
        cli("rules", "set", client, "--rate", str(rate), "--window", "1")
    said = flask("rules", "prune", "--yes", **environment, VERSIONS_KEPT="5").stdout
    assert re.fullmatch(r"0 audit events older than 365 days and \d+ versions beyond 5 a rule deleted\n", said)
    kept = [version["version"] for version in json_of(cli, "rules", "history", number)]
    assert kept == [7, 6, 5, 4, 3]
