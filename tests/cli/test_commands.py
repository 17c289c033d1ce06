"""`flask rules|tenants|keys|counters`: what each does, in tables and JSON; errors are one line and an exit code."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from app.cli.progress import progress
from app.version import __version__
from tests.cli.conftest import AtTerminal, Cli, json_of
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
    assert table[0].split() == ["ID", "VERSION", "CLIENT", "ENDPOINT", "ACTION", "LIMITS", "NOTES"]
    assert re.search(rf"^{number} +2 +{client} +login +limit +1/1s gcra burst 3, 100/3600s +two$", table[1])
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


def test_files_are_exported_compared_and_imported(cli: Cli, client: str, tmp_path: Path) -> None:
    cli("tenants", "create", client)
    own = ("--tenant", client)
    file = tmp_path / "rules.yaml"
    file.write_text("rules:\n- {client_id: a, rate: 5, window: 60}\n- {client_id: b, action: block}\n")
    assert cli("rules", "diff", str(file), *own).output == (
        "+ a *\n+ b *\n2 created, 0 replaced, 0 deleted, 0 unchanged\n"
    )
    cli("rules", "import", str(file), *own, "--dry-run")
    assert json_of(cli, "rules", "list", *own) == []
    assert len(json_of(cli, "rules", "import", str(file), *own)["created"]) == 2
    for kind in ("yaml", "json"):
        copy = tmp_path / f"copy.{kind}"
        copy.write_text(cli("rules", "export", *own, "--format", kind).output)
        assert cli("rules", "diff", str(copy), *own, "--replace").output.endswith("0 deleted, 2 unchanged\n")
    file.write_text("rules:\n- {client_id: a, rate: 6, window: 60}\n")
    told = "~ a *\n    rate: 5 -> 6\n- b *\n0 created, 1 replaced, 1 deleted, 0 unchanged\n"
    before = json_of(cli, "rules", "list", *own)
    refused = cli("rules", "import", str(file), *own, "--replace", code=1).output
    assert refused.startswith(f"{told}Error: Delete 1 rule that {file} does not have? Nothing was changed: ")
    assert json_of(cli, "rules", "list", *own) == before
    assert cli("rules", "import", str(file), *own, "--replace", "--yes").output == told
    assert cli("rules", "import", str(file), *own, "--replace").output.endswith(" 0 deleted, 1 unchanged\n")
    from_stdin = cli("rules", "import", "-", *own, stdin='{"rules": [{"client_id": "c", "rate": 1, "window": 1}]}')
    assert from_stdin.output.endswith("1 created, 0 replaced, 0 deleted, 0 unchanged\n")


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


def test_a_file_longer_than_a_megabyte_is_taken_by_every_command(cli: Cli, client: str, tmp_path: Path) -> None:
    cli("tenants", "create", client)
    own = ("--tenant", client)
    file = tmp_path / "rules.json"
    rules = [{"client_id": f"c{number}", "rate": 1, "window": 1, "description": "d" * 990} for number in range(1_200)]
    file.write_text(json.dumps({"rules": rules}))
    assert cli("rules", "validate", str(file)).output == f"{file}: 1200 rules, all valid\n"
    assert cli("rules", "import", str(file), *own).output.endswith("1200 created, 0 replaced, 0 deleted, 0 unchanged\n")
    copy = tmp_path / "copy.yaml"
    copy.write_text(cli("rules", "export", *own).output)
    assert copy.stat().st_size > 1024 * 1024
    assert cli("rules", "diff", str(copy), *own, "--replace").output.endswith("0 deleted, 1200 unchanged\n")


def test_long_work_gives_signs_of_life(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("app.cli.progress.FIRST_SECONDS", 0)
    monkeypatch.setattr("app.cli.progress.LOG_SECONDS", 0)
    with progress("reading", lambda: "a half") as pace:
        assert list(pace([1, 2])) == [1, 2]
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "reading: a half\n" * 2)


def test_an_invalid_file_is_a_line_for_each_error_and_changes_nothing(cli: Cli, tmp_path: Path) -> None:
    before = json_of(cli, "rules", "list")
    file = tmp_path / "rules.yaml"
    file.write_text("rules:\n- {client_id: a, rate: 0, window: 60}\n- {rate: 1, window: 1}\n")
    for command in ("validate", "diff", "import"):
        lines = cli("rules", command, str(file), code=1).output.splitlines()
        assert [line.partition(": ")[0] for line in lines] == [f"{file}:2", f"{file}:3"]
        assert "rules[0].rate: " in lines[0]
    file.write_text("rules:\n- &a {}\n")
    said = cli("rules", "import", str(file), code=1).output
    assert said.startswith(f"{file}:2: the file is not YAML: ")
    file.write_text("- a\n")
    assert cli("rules", "validate", str(file), code=1).output == f'{file}:1: A file holds {{"rules": […]}}.\n'
    json_file = tmp_path / "rules.json"
    json_file.write_text('{"rules": [\n{"client_id": a}]}')
    assert cli("rules", "validate", str(json_file), code=1).output.startswith(f"{json_file}:2: the file is not JSON: ")
    assert json_of(cli, "rules", "list") == before
    assert "No such file" in cli("rules", "validate", str(tmp_path / "none.yaml"), code=1).output


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


def test_pruning_keeps_what_the_settings_say(cli: Cli, client: str) -> None:
    number = str(json_of(cli, "rules", "set", client, "--rate", "1", "--window", "1")["id"])
    for rate in range(2, 104):
        cli("rules", "set", client, "--rate", str(rate), "--window", "1")
    said = cli("rules", "prune", "--yes").output
    assert re.fullmatch(r"0 audit events older than 365 days and 3 versions beyond 100 a rule deleted\n", said)
    kept = [version["version"] for version in json_of(cli, "rules", "history", number)]
    assert kept == list(range(103, 3, -1))


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("rules", "set", "a", "--rate", "0", "--window", "1"), "rate: Must be greater than or equal to 1"),
        (("rules", "set", "a"), "rate: Missing data for required field."),
        (("rules", "set", "a", "--limit", "1/1", "--rate", "2"), "limits: Give either"),
        (("rules", "set", "a", "--limit", "0/1"), "limits[0].rate: Must be greater"),
        (("rules", "list", "--tenant", "none"), "there is no tenant none"),
    ],
)
def test_a_refusal_is_one_line(cli: Cli, command: tuple[str, ...], told: str) -> None:
    output = cli(*command, code=1).output
    assert output.startswith(f"Error: {told}")
    assert output.count("\n") == 1


@pytest.mark.parametrize("limit", ["1", "1/x", "1/1/gcra/3/4", "/", "1/1/gcra/x"])
def test_a_limit_that_cannot_be_read_is_a_usage_error(cli: Cli, limit: str) -> None:
    assert "RATE/WINDOW" in cli("rules", "set", "a", "--limit", limit, code=2).output


def _flask(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", *command],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_file_is_validated_without_any_server(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text("rules:\n- {client_id: a, rate: 5, window: 60}\n")
    run = _flask("rules", "validate", str(file))
    assert (run.returncode, run.stdout, run.stderr) == (0, f"{file}: 1 rule, valid\n", "")


@pytest.mark.parametrize(
    ("command", "environment", "told"),
    [
        (("rules", "list"), {}, "Error: DATABASE_URL is not set: allowed is postgresql://"),
        (("db", "upgrade"), {}, "DATABASE_URL is not set: allowed is postgresql://"),
        (("keys", "list"), {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}, "Error: the database: "),
        (("rules", "list"), {"DATABASE_URL": "mysql://x"}, "DATABASE_URL=mysql://x: allowed is "),
    ],
    ids=str,
)
def test_without_the_database_a_command_ends_with_one_line(
    command: tuple[str, ...], environment: dict[str, str], told: str
) -> None:
    run = _flask(*command, **environment)
    assert run.returncode == 1
    assert run.stderr.startswith(told), run.stderr
    assert run.stderr.count("\n") == 1


def test_a_node_does_not_start_without_a_database() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "gunicorn", "wsgi:app"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1
    assert run.stderr.strip().splitlines()[-1].startswith("DATABASE_URL is not set")
