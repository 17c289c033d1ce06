"""`flask explain` and `flask counters` for rules in layers, for groups and with shared counters."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from app.rules.rule import Limit
from tests.cli.conftest import Cli, json_of
from tests.support.stored import put_rule, rule


class Rules(NamedTuple):
    tenant: str
    free: int
    org: int
    shop: int


@pytest.fixture(scope="module")
def rules(cli: Cli, environment: dict[str, str]) -> Rules:
    """In a tenant of their own."""
    name = "groups-of-the-cli"
    created = re.fullmatch(r"tenant (\d+): created\n", cli("tenants", "create", name).output)
    assert created
    tenant_id = int(created[1])

    def of(client_id: str, rate: int, **fields: object) -> int:
        sent = rule(client_id, Limit(rate, 3600, "fixed_window"), tenant_id=tenant_id, **fields)
        return put_rule(session, sent)[0].id

    engine = create_engine(environment["DATABASE_URL"])
    with Session(engine) as session:
        free = of("", 50, group="plan:free")
        org = of("", 20, group="org:*", layer="org", shared=True)
        shop = of("*", 1000, layer="shop", endpoint="search", shared=True)
    engine.dispose()
    return Rules(name, free, org, shop)


def test_explain_names_the_rule_of_each_layer(cli: Cli, rules: Rules, client: str) -> None:
    named = ["--tenant", rules.tenant, "--group", "org:7", "--group", "plan:free"]
    lines = cli("explain", client, "search", *named).output.splitlines()
    assert [line for line in lines if line.startswith("rule ")] == [
        f"rule {rules.free} (group plan:free, any endpoint) decides: 50/3600s fixed_window",
        f"rule {rules.org} (group org:*, layer org, any endpoint, one counter for each group) decides:"
        " 20/3600s fixed_window",
        f"rule {rules.shop} (*, layer shop, search, one counter for all) decides: 1000/3600s fixed_window",
    ]
    assert "All 3 must admit, each for its layer." in lines
    assert "    20/3600s fixed_window: 20 of 20 left" in lines
    layers = [each["layer"] for each in json_of(cli, "explain", client, "search", *named) if each["wins"]]
    assert layers == ["default", "org", "shop"]
    assert "must admit" not in cli("explain", client, "--tenant", rules.tenant).output


def test_counters_are_of_a_client_a_group_or_a_rule(cli: Cli, rules: Rules, client: str) -> None:
    tenant = ["--tenant", rules.tenant]
    table = cli("counters", "show", client, "--group", "plan:free", "--group", "org:7", *tenant).output
    assert re.search(rf"^{rules.free} +group plan:free +- +default +50 ", table, re.MULTILINE)
    assert not re.search(rf"^{rules.org} ", table, re.MULTILINE)
    for whose, expected in ((["--group", "org:7"], rules.org), (["--rule", str(rules.shop)], rules.shop)):
        [reading] = json_of(cli, "counters", "show", *whose, *tenant)
        assert (reading["rule_id"], reading["shared"]) == (expected, True)
        told = f"{whose[0].strip('-')} {whose[1]}: 1 counters reset\n"
        assert cli("counters", "reset", *whose, *tenant).output == told
    assert cli("counters", "reset", client, *tenant).output == f"client {client}: 2 counters reset\n"


def test_what_means_no_counters_is_refused_in_one_line(cli: Cli, rules: Rules, client: str) -> None:
    tenant = ["--tenant", rules.tenant]
    for words, told in (
        ((), "Exactly one of client_id, group and rule_id is needed."),
        ((client, "--rule", "1"), "Exactly one of"),
        (("--rule", str(rules.org)), "Allowed is a shared rule of clients"),
        (("--rule", "999999"), "there is no rule 999999"),
    ):
        assert told in cli("counters", "show", *words, *tenant, code=1).output
    assert "names the one group" in cli("counters", "reset", "--group", "a", "--group", "b", *tenant, code=2).output
