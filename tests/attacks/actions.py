"""What the random search does to a node: an episode is JSON, made from a seed, so that it can be kept and done again.

Counted clients have a rule each, and honest callers alone ask for them: their counts are known exactly. Everything else
is done to others: nonsense to every endpoint, edits, broken connections.
"""

from __future__ import annotations

import json
import random
from typing import Any

from app.rules.rule import ALGORITHMS

Action = dict[str, Any]
Episode = dict[str, Any]

CLIENTS, CALLERS, ACTIONS = 5, 12, 25
SIZES = (1, 1, 2, 10, 100, 1000)
MAX_BODY = 300_000  # bytes, about: more than any endpoint takes but an import
RULE = "{rule}"  # in a path: the id of the rule that may be hurt
OTHER = {"client_id": "w", "rate": 5, "window": 60}

# Method, path and a body that is right: what the mutations begin with.
ENDPOINTS: list[tuple[str, str, Any]] = [
    ("POST", "/v1/check", {"client_id": "w", "limit_key": "k", "cost": 1, "request_id": "r"}),
    ("POST", "/v1/check/batch", {"checks": [{"client_id": "w"}, {"client_id": "x", "cost": 0}]}),
    ("POST", "/v1/leases", {"client_id": "w", "permits": 5, "ttl_ms": 1000}),
    ("POST", "/v1/leases/none/return", {"unused": 1}),
    ("GET", "/v1/authorize?limit_key=k&cost=1", None),
    ("GET", "/rules", None),
    ("POST", "/v1/admin/rules", OTHER | {"endpoint": "k", "algorithm": "gcra", "burst": 9, "description": "d"}),
    ("POST", "/v1/admin/rules", {"client_id": "w*", "limits": [{"rate": 5, "window": 60, "algorithm": "gcra"}]}),
    ("PUT", f"/v1/admin/rules/{RULE}", OTHER | {"fail_mode": "open", "shadow": False, "enabled": True}),
    ("PATCH", f"/v1/admin/rules/{RULE}", {"limits": [{"rate": 5, "window": 60}]}),
    ("PATCH", f"/v1/admin/rules/{RULE}", {"rate": 7, "burst": 8}),
    ("GET", f"/v1/admin/rules/{RULE}/versions?page=1&page_size=10", None),
    ("POST", f"/v1/admin/rules/{RULE}/rollback", {"version": 1}),
    ("GET", "/v1/admin/rules?client_id=w&page=1&page_size=5", None),
    ("GET", "/v1/admin/export", None),
    ("POST", "/v1/admin/import?dry_run=true", {"rules": [OTHER, OTHER | {"endpoint": "e"}]}),
    ("GET", "/v1/admin/explain?client_id=w&limit_key=k", None),
    ("GET", "/v1/admin/counters?client_id=w", None),
    ("POST", "/v1/admin/counters/reset", {"client_id": "w", "limit_key": "k"}),
    ("GET", "/v1/admin/limited", None),
    ("GET", "/v1/admin/audit?page_size=5", None),
    ("POST", "/v1/admin/templates", {"name": "t", "rules": [{"rate": 5, "window": 60}]}),
    ("POST", "/v1/admin/templates/free/apply", {"client_id": "w"}),
    ("GET", "/v1/admin/tenants", None),
    ("POST", "/v1/admin/tenants", {"name": "w"}),
    ("POST", "/v1/admin/api-keys", {"name": "w", "scopes": ["check"], "expires_at": "2030-01-01T00:00:00Z"}),
    ("GET", "/v1/admin/api-keys?revoked=false", None),
    *(("GET", path, None) for path in ("/health", "/metrics", "/readyz", "/openapi.json", "/docs", "/nowhere")),
]
ODD: list[Any] = [
    *(None, True, 0, -1, 1.5, 10**30, 1e308, "", "0", "*", "a\0b", "\ud800", "x" * 300, "\U0001f600" * 200, [], {}),
    *(
        [[]] * 50,
        {"a": {"b": {"c": {}}}},
        "2030-13-01T00:00:00Z",
        "9999-12-31T23:59:59+14:00",
        "%",
        "../..",
        "w" * 70_000,
    ),
]


def episode(seed: int) -> Episode:
    """What several callers do at the same time, each in its order."""
    dice = random.Random(seed)
    clients = [{"algorithm": dice.choice(ALGORITHMS), "limit": dice.choice((1, 10, 500, 5000))} for _ in range(CLIENTS)]
    return {"seed": seed, "clients": clients, "callers": [_caller(dice) for _ in range(CALLERS)]}


def _caller(dice: random.Random) -> list[Action]:
    kinds = {"check": 5, "batch": 3, "pipeline": 1, "drop": 1, "send": 4, "raw": 1, "pause": 1, "reconnect": 1}
    honest = dice.random() < 0.5
    weights = [weight * (1 if honest or kind in ("send", "raw", "pause") else 0.2) for kind, weight in kinds.items()]
    return [MAKERS[kind](dice) for kind in dice.choices(list(kinds), weights, k=ACTIONS)]


def _check(dice: random.Random) -> dict[str, Any]:
    """`client`: number of the counted client. A request_id goes with one cost, so that it never conflicts."""
    check = {"client": dice.randrange(CLIENTS), "cost": dice.choice((0, 1, 1, 1, 2, 7, 100))}
    if dice.random() < 0.1:
        check["cost"] = 3
        check["request_id"] = f"id-{dice.randrange(20)}"
    return check


def _batch(dice: random.Random) -> Action:
    # Mostly of one client: that is dear to one counter.
    first, alike = _check(dice), dice.random() < 0.5
    return {"do": "batch", "checks": [first if alike else _check(dice) for _ in range(dice.choice(SIZES))]}


def _send(dice: random.Random) -> Action:
    method, path, right = dice.choice(ENDPOINTS)
    body = None if right is None else _mutated(dice, json.loads(json.dumps(right)))
    text = None if body is None else json.dumps(body)
    if dice.random() < 0.1:
        path += dice.choice(("?", "&")) + dice.choice(
            ("page=-1", "page_size=10000000000", "client_id=%00", "x=" + "y" * 3000)
        )
    if text and dice.random() < 0.1:
        cut = dice.randrange(len(text))
        text = text[:cut] + dice.choice(("", "\0", "\\ud800", '"', "[" * 5000)) + text[cut + 1 :]
    key = dice.choice(("admin", "admin", "admin", "none", "wrong"))
    return {"do": "send", "method": method, "path": path, "body": text, "key": key}


def _mutated(dice: random.Random, body: Any) -> Any:
    for _ in range(dice.choice((0, 1, 1, 2, 4))):
        body = _changed(dice, body)
    return body


def _changed(dice: random.Random, body: Any) -> Any:
    """One place somewhere in it is another."""
    if isinstance(body, dict) and body and dice.random() < 0.9:
        name = dice.choice(list(body))
        if dice.random() < 0.2:
            return {other: value for other, value in body.items() if other != name}
        return body | {name if dice.random() < 0.95 else name + "x": _changed(dice, body[name])}
    if isinstance(body, list) and body and dice.random() < 0.9:
        place = dice.randrange(len(body))
        changed = [*body[:place], _changed(dice, body[place]), *body[place + 1 :]]
        return changed * min(dice.choice((1, 1, 1, 10, 2000, 20_000)), 1 + MAX_BODY // len(json.dumps(changed)))
    return dice.choice(ODD)


def _raw(dice: random.Random) -> Action:
    """Bytes that begin as a request and may not end as one, in pieces; then the connection is closed or reset."""
    body = json.dumps({"client_id": "w" * dice.choice((1, 9, 200))})
    lines = ["POST /v1/check HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += dice.choices(
        (f"X-{dice.random()}: {'y' * dice.choice((1, 100, 3000))}", "Transfer-Encoding: chunked"), (4, 1)
    )
    text = bytearray(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
    for _ in range(dice.choice((0, 1, 2))):
        at = dice.randrange(len(text))
        text[at : at + dice.choice((0, 1, 5))] = dice.choice((b"", b"\r\n", b"\0", dice.randbytes(3), b" "))
    sent = bytes(text[: dice.choice((len(text), len(text) // 2, 10))]).decode("latin-1")
    return {"do": "raw", "bytes": sent, "pieces": dice.choice((1, 1, 3, 20)), "reset": dice.random() < 0.5}


MAKERS = {
    "check": lambda dice: {"do": "check", "checks": [_check(dice)]},
    "batch": _batch,
    "pipeline": lambda dice: {"do": "pipeline", "checks": [_check(dice) for _ in range(dice.choice((2, 8)))]},
    "drop": lambda dice: {"do": "drop", "checks": [_check(dice)]},
    "send": _send,
    "raw": _raw,
    "pause": lambda dice: {"do": "pause", "ms": dice.choice((1, 10, 100))},
    "reconnect": lambda dice: {"do": "reconnect"},
}
