"""Holders of keys reach for more: at a proxy's door, by keys that they make, by rank (rows 13 to 15)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from app.environment import SettingsError
from app.rules.api_key import SCOPES
from devstack import Valkey
from tests.attacks.conftest import MakeKey
from tests.support.matrix import Figures
from tests.support.node import ADMIN_KEY, Node

LIMIT, ASKED = 3, 10
MINTED = 5
KEYS = "/v1/admin/api-keys"
LONG_KEY = "k3y-of-the-tests-" + "x" * 24


@pytest.fixture(scope="module")
def door(
    attacked: Node, redis_server: Valkey, rules_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Node]:
    """A node behind a proxy that passes its clients' keys on. The rules there are those of the tenant `door`."""
    attacked.request("POST", "/v1/admin/tenants", json={"name": "door"})
    node = Node(
        redis_url=redis_server.url,
        database_url=rules_database,
        data_dir=tmp_path_factory.mktemp("door"),
        TRUSTED_PROXIES="127.0.0.1",
        AUTHORIZE_TENANT="door",
        CHECK_AUTH="open",
        REDIS_TIMEOUT_MS=2000,
    )
    with node as running:
        yield running


def made(node: Node, key: str = ADMIN_KEY, **fields: Any) -> str:
    answer = node.request("POST", KEYS, key=key, json={"name": "made"} | fields)
    assert answer.status_code == 201, answer.text
    text: str = answer.json()["key"]
    return text


@pytest.mark.attack(
    13, "a key of another tenant, whose own rule allows all, five keys that a key has made, preflights, at a proxy"
)
def test_no_key_multiplies_what_its_holder_has(door: Node, measured: Figures) -> None:
    """The other tenant's key is refused, and the key is one client with all the keys that it has made."""
    door.request("POST", "/v1/admin/tenants", json={"name": "foreign"})
    operator = made(door, tenant="door", scopes=["rules:write"])
    foreign = made(door, tenant="foreign", scopes=["check", "rules:write"])
    own = made(door, tenant="door", scopes=["check", "keys:write"])
    assert door.eventually(lambda: all(door.request("GET", "/rules", key=key).status_code != 401 for key in [own] * 8))
    door.put_rule(key=operator, client_id="*", rate=LIMIT, window=3600, algorithm="fixed_window")
    door.put_rule(key=foreign, client_id="*", action="allow")
    keys = [own, *(made(door, own, scopes=["check"]) for _ in range(MINTED))]
    assert door.eventually(lambda: all(door.request("POST", "/v1/check", key=key, json=PEEK).ok for key in keys * 2))
    measured["limit"], measured["asked by each"] = LIMIT, ASKED
    measured["admitted: key of another tenant"] = authorize(door, foreign).count(200)
    measured["own key and five made by it"] = sum(authorize(door, key).count(200) for key in keys)
    measured["address without a key"] = authorize(door, None).count(200)
    peeks = [door.request(method, "/v1/authorize", key=None, headers=OTHER).status_code for method in PEEKS]
    measured["charged by OPTIONS and TRACE"] = LIMIT - authorize(door, None, client=OTHER).count(200)
    assert set(peeks) == {200}
    assert measured["charged by OPTIONS and TRACE"] == 0
    assert measured["admitted: key of another tenant"] == 0
    assert measured["own key and five made by it"] == LIMIT
    assert measured["address without a key"] == LIMIT


PEEK = {"client_id": "x", "cost": 0}
PEEKS = ("OPTIONS", "TRACE") * (2 * LIMIT)
CLIENT, OTHER = {"X-Forwarded-For": "203.0.113.5"}, {"X-Forwarded-For": "203.0.113.6"}


def authorize(node: Node, key: str | None, client: dict[str, str] = CLIENT) -> list[int]:
    """The statuses of a client at that address."""
    return [node.request("GET", "/v1/authorize", key=key, headers=client).status_code for _ in range(ASKED)]


def soon(seconds: int) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


@pytest.mark.attack(
    14, "a key that may make keys, and expires, makes one that lasts, or ends and replaces greater ones"
)
def test_a_key_neither_outlives_nor_outranks_its_maker(attacked: Node, make_key: MakeKey, measured: Figures) -> None:
    """What it makes expires with it at the latest and has no scope that it lacks; greater keys it cannot touch."""
    great = attacked.request("POST", KEYS, json={"name": "great", "scopes": list(SCOPES)}).json()
    lasting = attacked.request("POST", KEYS, json={"name": "lasting", "scopes": ["check"]}).json()
    body = {"name": "small", "scopes": ["check", "keys:write"], "expires_at": soon(600)}
    maker = attacked.request("POST", KEYS, json=body).json()
    attacked.await_rules()
    assert attacked.eventually(lambda: attacked.request("GET", KEYS, key=maker["key"]).ok)

    def tried(method: str, path: str = "", **fields: Any) -> Any:
        return attacked.request(method, KEYS + path, key=maker["key"], **({"json": fields} if fields else {}))

    heir = tried("POST", name="heir", scopes=["check"])
    refused = {
        "a later expiry": tried("POST", name="later", scopes=["check"], expires_at=soon(6000)),
        "a scope that it lacks": tried("POST", name="more", scopes=["check", "rules:write"]),
        "every scope": tried("POST", name="all", scopes=list(SCOPES)),
        "another tenant": tried("POST", name="other", scopes=["check"], tenant="foreign"),
        "to replace a greater key": tried("POST", f"/{great['id']}/rotate", overlap_seconds=60),
        "to replace one that lasts": tried("POST", f"/{lasting['id']}/rotate", overlap_seconds=60),
        "to revoke a greater key": tried("DELETE", f"/{great['id']}"),
    }
    statuses = {what: answer.status_code for what, answer in refused.items()}
    expiry = datetime.fromisoformat(heir.json()["expires_at"] or soon(10**9))
    measured["attempts"], measured["that succeeded"] = 1 + len(refused), sum(s < 400 for s in statuses.values())
    measured["its heir outlives it by, s"] = max(
        0, round((expiry - datetime.fromisoformat(maker["expires_at"])).total_seconds())
    )
    assert {what: status for what, status in statuses.items() if not 400 <= status < 500} == {}
    assert heir.status_code == 201
    assert measured["its heir outlives it by, s"] == 0
    assert attacked.request("GET", KEYS, key=great["key"]).ok


PROXY = {"TRUSTED_PROXIES": "127.0.0.1"}
UNSAFE: dict[str, dict[str, str]] = {
    "open checks behind a proxy, unsaid": PROXY | {"ADMIN_API_KEY": LONG_KEY},
    "a key of one letter, published": {"BIND": "0.0.0.0", "ADMIN_API_KEY": "a"},
    "a key of one letter behind a proxy": PROXY | {"ADMIN_API_KEY": "a"},
    "a key of 23 characters, published": {"BIND": "0.0.0.0", "ADMIN_API_KEY": "x" * 23},
    "an example's key": {"ADMIN_API_KEY": "change me"},
}


@pytest.mark.attack(
    15, "settings that let strangers in: a key anybody guesses, an example's, a node open behind a proxy"
)
def test_unsafe_settings_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, measured: Figures) -> None:
    """The start is refused, or checks need a key that nobody guesses."""
    monkeypatch.chdir(tmp_path)
    let_in = [what for what, settings in UNSAFE.items() if lets_in(monkeypatch, settings)]
    measured["settings"], measured["let in"] = len(UNSAFE), len(let_in)
    assert let_in == []


def lets_in(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]) -> bool:
    """Whether a node would start with these settings, and decide checks without a key or with one that is guessed."""
    with monkeypatch.context() as environment:
        for name in (*PROXY, "BIND", "ADMIN_API_KEY", "CHECK_AUTH"):
            environment.delenv(name, raising=False)
        for name, value in ({"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"} | settings).items():
            environment.setenv(name, value)
        try:
            found = Settings.from_env()
        except SettingsError:
            return False
    return found.check_auth != "required" or settings["ADMIN_API_KEY"] != LONG_KEY
