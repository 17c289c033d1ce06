"""Questions at night: why, who, since when; and what the audit says of the operator."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import re
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from types import SimpleNamespace

import click
import psycopg2
import pytest

from app.cli import COMMANDS, GROUPS
from app.cli.lazy import LazyCommand
from app.cli.times import DurationType, moment
from app.limiter.denied_clients import DeniedClients
from app.limiter.redis.store import RedisStore
from app.rules.rule import Rule, default_rule
from app.rules.rule_book import RuleBook, Snapshot
from tests.cli.conftest import Cli, json_of
from tests.support.node import ROOT

LIMIT = ("--rate", "5", "--window", "60")
NOW = datetime(2026, 11, 25, 10, 23, 45, tzinfo=UTC)  # a Wednesday


def test_explain_is_short_and_begins_with_the_winner(cli: Cli, client: str) -> None:
    login = json_of(cli, "rules", "set", client, "--endpoint", "login", "--limit", "5/60/gcra", "--limit", "9/3600")[
        "id"
    ]
    plan = json_of(cli, "rules", "set", client, *LIMIT)["id"]
    wide = json_of(cli, "rules", "set", f"{client}*", *LIMIT)["id"]
    assert cli("explain", client, "login").output.splitlines() == [
        f"rule {login} ({client}, login) decides: 5/60s gcra, 9/3600s token_bucket",
        "    because it names the client; it is for the endpoint",
        "    5/60s gcra: 5 of 5 left",
        "    9/3600s token_bucket: 9 of 9 left",
        f"not rule {plan} ({client}, any endpoint): rule {login} is more specific",
        f"not rule {wide} ({client}*, any endpoint): rule {login} is more specific",
    ]
    first = json_of(cli, "explain", client)[0]
    assert (first["rule_id"], first["wins"], first["counters"][0]["remaining"]) == (plan, True, 5)
    asleep = json_of(cli, "rules", "set", client, "--endpoint", "export", *LIMIT, "--disabled")["id"]
    assert cli("explain", client).output.endswith("\n(1 rule of other keys: --all)\n")
    told = cli("explain", client, "--all").output
    assert f"not rule {asleep} ({client}, export): it is disabled\n" in told
    assert f"not rule {login} ({client}, login): it is for the endpoint login only\n" in told
    assert "Length must be between 1 and" in cli("explain", "", code=1).output


def test_explain_shows_a_shadow_beside_what_decides(cli: Cli, client: str) -> None:
    shadow = json_of(cli, "rules", "set", client, "--rate", "2", "--window", "60", "--shadow")["id"]
    lines = cli("explain", client).output.splitlines()
    assert lines[0].startswith("rule default (*, any endpoint) decides: 100/60s")
    assert f"shadow rule {shadow} ({client}, any endpoint) would decide: 2/60s token_bucket" in lines
    assert "    2/60s token_bucket: 2 of 2 left" in lines


def test_the_audit_says_who_did_it(cli: Cli, client: str) -> None:
    made = cli("rules", "set", client, *LIMIT).output
    number = re.findall(r"\d+", made)[0]
    cli("rules", "edit", number, "--rate", "6", "--as", "jane")
    cli("counters", "reset", client, "--as", "jane@laptop")
    cli("rules", "delete", number, "--yes", env={"SUDO_USER": "joe"})
    by = [(event["actor"], event["action"]) for event in json_of(cli, "audit", "--client-id", client)]
    me = pwd.getpwuid(os.getuid()).pw_name
    assert by == [
        ("cli:joe", "rule.delete"),
        ("cli:jane@laptop", "counters.reset"),
        ("cli:jane", "rule.update"),
        (f"cli:{me}", "rule.create"),
    ]
    lines = cli("audit", "--client-id", client).output.splitlines()
    assert lines[0].split() == ["TIME", "BY", "ACTION", "WHAT", "CORRELATION", "ID"]
    assert "    rate: 5 -> 6" in lines
    assert f"rule {number} ({client}, any endpoint)" in lines[1]
    for name in ("", "n" * 65, "two\nlines"):
        cli("rules", "block", client, "--as", name, code=0 if not name else 2)


def test_the_audit_is_filtered(cli: Cli, client: str) -> None:
    number = json_of(cli, "rules", "set", client, *LIMIT)["id"]
    cli("rules", "edit", str(number), "--rate", "6")
    cli("counters", "reset", client)
    cli("rules", "delete", str(number), "--yes")
    everything = json_of(cli, "audit", "--client-id", client)
    of_rule = json_of(cli, "audit", "--rule", str(number))
    assert [event["action"] for event in of_rule] == ["rule.delete", "rule.update", "rule.create"]
    assert json_of(cli, "audit", "--client-id", client, "--action", "rule.*") == of_rule
    assert json_of(cli, "audit", "--client-id", client, "--action", "rule.delete") == of_rule[:1]
    assert json_of(cli, "audit", "--client-id", client, "--since", "1h", "--until", "now") == everything
    assert json_of(cli, "audit", "--client-id", client, "--until", "yesterday") == []
    [reset] = json_of(cli, "audit", "--client-id", client, "--action", "counters.reset")
    assert json_of(cli, "audit", "--correlation-id", reset["correlation_id"]) == [reset]
    assert json_of(cli, "audit", "--client-id", client, "--limit", "2") == everything[:2]
    assert cli("audit", "--client-id", client, "--limit", "2").output.endswith("\n(2 older ones: --limit)\n")
    assert "allowed is now, today, yesterday" in cli("audit", "--since", "tomorrow-ish", code=2).output


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("now", "2026-11-25T10:23:45"),
        ("today", "2026-11-25T00:00:00"),
        ("Yesterday", "2026-11-24T00:00:00"),
        ("monday", "2026-11-23T00:00:00"),
        ("tuesday", "2026-11-24T00:00:00"),
        ("wednesday", "2026-11-18T00:00:00"),  # a week ago, for today is `today`
        ("thursday", "2026-11-19T00:00:00"),
        ("90s", "2026-11-25T10:22:15"),
        ("30m", "2026-11-25T09:53:45"),
        ("2h", "2026-11-25T08:23:45"),
        ("2 hours ago", "2026-11-25T08:23:45"),
        ("3d", "2026-11-22T10:23:45"),
        ("1w", "2026-11-18T10:23:45"),
        ("2026-11-20", "2026-11-20T00:00:00"),
        ("2026-11-20T10:00", "2026-11-20T10:00:00"),
        ("2026-11-20T10:00:00Z", "2026-11-20T10:00:00"),
        ("2026-11-20T10:00:00+02:00", "2026-11-20T08:00:00"),
        ("2 months", None),
        ("999999w", None),
        ("0001-01-01T00:00:00+01:00", None),
        ("soon", None),
        ("", None),
    ],
)
def test_times_as_people_type_them(said: str, meant: str | None) -> None:
    assert moment(said, NOW) == (meant and datetime.fromisoformat(f"{meant}+00:00"))


@pytest.mark.parametrize(
    ("said", "seconds"), [("0", 0), ("90s", 90), ("30m", 1800), ("1d", 86_400), ("2 weeks", 1_209_600)]
)
def test_durations_as_people_type_them(said: str, seconds: int) -> None:
    assert DurationType().convert(said, None, None).total_seconds() == seconds
    with pytest.raises(click.BadParameter, match="allowed is a number with"):
        DurationType().convert("long", None, None)


def test_the_clients_that_are_denied_are_listed_with_their_rule(
    cli: Cli, client: str, store: RedisStore, environment: dict[str, str]
) -> None:
    """Counted by a worker of a node, which knows the secret of the same database."""
    rule = json_of(cli, "rules", "set", f"{client}*", "--endpoint", "login", *LIMIT)
    with closing(psycopg2.connect(environment["DATABASE_URL"])) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT key_secret FROM rule_book")
        [secret] = cursor.fetchone() or ("",)
    snapshot = Snapshot(1, bytes.fromhex(secret), ())
    book = RuleBook(snapshot, default=default_rule(100, 60), algorithm="gcra")
    worker = DeniedClients(store=store, rules=SimpleNamespace(book=book), clock=time.time)
    denied = {f"{client}-1": rule["id"], f"{client}-2": 0, f"{client}-3": 10**9}
    for times, (name, rule_id) in enumerate(denied.items(), 10_000):
        for _ in range(times):
            worker.denied(1, name, Rule(id=rule_id, client_id="*", limits=()))
    worker.flush()
    most = json_of(cli, "limited", "--contains", client)
    assert most == [
        {"client_id": f"{client}-3", "rule_id": 10**9, "denied": 10_002},
        {"client_id": f"{client}-2", "rule_id": "default", "denied": 10_001},
        {"client_id": f"{client}-1", "rule_id": rule["id"], "denied": 10_000},
    ]
    assert json_of(cli, "limited", "--contains", f"{client}-2") == most[1:2]
    lines = cli("limited", "--contains", client).output.splitlines()
    assert lines[1].split()[1:] == ["10002", "1000000000", "(deleted)", "-", "-", "-"]
    assert lines[2].split()[1:] == ["10001", "default", "*", "-", "limit", "100/60s", "token_bucket"]
    assert lines[3].split()[1:] == ["10000", str(rule["id"]), f"{client}*", "login", "limit", "5/60s"]


def test_a_key_is_rotated(cli: Cli, client: str) -> None:
    old = json_of(cli, "keys", "create", client, "--scope", "check")
    new = json_of(cli, "keys", "rotate", old["id"], "--overlap", "1h", "--as", "jane")
    assert (new["name"], new["scopes"]) == (client, ["check"])
    assert new["key"] != old["key"]
    [ends] = [key["expires_at"] for key in json_of(cli, "keys", "list") if key["id"] == old["id"]]
    assert 3500 < (datetime.fromisoformat(ends) - datetime.now(UTC)).total_seconds() <= 3600
    [event] = json_of(cli, "audit", "--actor", "cli:jane", "--action", "key.rotate")
    assert event["after"]["name"] == client
    assert re.fullmatch(r"rl_\w{8}_[\w-]{43}\n", cli("keys", "rotate", new["id"]).stdout)
    assert "30d at most" in cli("keys", "rotate", new["id"], "--overlap", "31d", code=2).output
    cli("keys", "rotate", "nokey", code=1)


def test_the_id_of_an_api_key_is_known_by_the_key_alone(cli: Cli) -> None:
    """As the SDK makes it: the key of a customer leads to what is known of the customer."""
    script = "from ratelimiter_client import identify; print(identify.api_key()({'HTTP_X_API_KEY': 's3cret'}))"
    environment = {"PYTHONPATH": str(ROOT / "sdk/src"), "PATH": os.environ["PATH"]}
    made = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert cli("client-id", "key", stdin="s3cret\n").output == made.stdout
    digest = hashlib.sha256(b"s3cret").hexdigest()[:32]
    assert cli("client-id", "cookie", stdin="s3cret").output == f"cookie:{digest}\n"


def test_clients_are_found_by_a_part_of_their_id(cli: Cli, client: str) -> None:
    for name in ("a%b", "a_b", "ab"):
        cli("rules", "set", f"{client}-{name}", *LIMIT)
    found = json_of(cli, "rules", "list", "--contains", f"{client[4:]}-a%")
    assert [rule["client_id"] for rule in found] == [f"{client}-a%b"]
    assert len(json_of(cli, "rules", "list", "--contains", client[4:])) == 3


def test_every_command_says_in_the_list_what_it_says_itself(cli: Cli) -> None:
    listed = {f"{group} {word}": row for group, (_, commands) in GROUPS.items() for word, row in commands.items()}
    for name, (place, does) in (listed | COMMANDS).items():
        line = (LazyCommand(name, place, does).command.help or "").partition("\n")[0]
        assert line.startswith(does.rstrip(".")), name
        assert cli(*name.split(), "--help").output.startswith("Usage: ")


HEAVY = (
    "redis",
    "gevent",
    "flask_smorest",
    "flask_migrate",
    "alembic",
    "opentelemetry",
    "prometheus_client",
    "requests",
)


LIGHT = (
    ("--help",),
    ("rules", "--help"),
    ("rules", "list"),
    ("rules", "set", "x", "--rate", "1", "--window", "1", "--yes"),
    ("rules", "block", "x"),
    ("keys", "list"),
    ("tenants", "list"),
    ("audit",),
    ("templates", "list"),
)
NEEDED = {("explain", "x"): {"redis", "gevent", "prometheus_client", "opentelemetry"}}


def test_a_command_imports_nothing_that_it_does_not_need(environment: dict[str, str]) -> None:
    """What a command takes is almost all the time of its imports: the whole service takes a second and more.

    One process runs all of them, the light ones first. It tells what it has imported after each.
    """
    script = (
        "import json, sys\n"
        "from flask.cli import cli\n"
        f"for command in {(*LIGHT, *NEEDED)!r}:\n"
        "    try:\n"
        "        cli.main(['--app', 'wsgi', *command], prog_name='flask')\n"
        "    except SystemExit as end:\n"
        "        assert not end.code, command\n"
        f"    print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]), file=sys.stderr)\n"
    )
    own = {"PATH": os.environ["PATH"]} | environment
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=own, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    imported = [set(json.loads(line)) for line in run.stderr.splitlines()]
    for command, found in zip((*LIGHT, *NEEDED), imported, strict=True):
        assert found <= NEEDED.get(command, set()), command
