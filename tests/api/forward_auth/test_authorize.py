"""/v1/authorize as proxies ask it: a status they understand, headers, and the same decision as a check's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from app.api.forward_auth.authorizer import simple_query
from app.rules.rule import Limit
from devstack import Valkey
from tests.api.conftest import MakeKey, PutRules
from tests.api.raw_http import CLOSE, PROBLEM, exchange, problem_of, request, statuses
from tests.support.node import ADMIN_KEY, Node, behind_proxy
from tests.support.stored import put_rule, rule

USER = "X-User"
DECISION = {"allowed", "remaining", "retry_after_ms", "limit", "window", "reset_at", "algorithm", "rule_id", "reason"}


@pytest.fixture(scope="module")
def proxied(valkey: Valkey, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that takes this machine for its proxy, on the counters and rules of the shared node."""
    data_dir = tmp_path_factory.mktemp("proxied")
    ways = {"AUTHORIZE_BY": f"header:{USER},key,address", "AUTHORIZE_GROUPS": "org=X-Org, plan=X-Plan"}
    with behind_proxy(valkey.url, database_url, data_dir, **ways, WEB_CONCURRENCY=1) as node:
        yield node


def authorize(node: Node, path: str = "", *, method: str = "GET", key: str | None = None, **headers: str) -> Any:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return node.request(method, f"/v1/authorize{path}", key=key, headers=sent)


def test_a_client_passes_until_the_limit_and_is_then_denied_with_all_that_a_check_says(
    node: Node, proxied: Node, put_rules: PutRules, client: str
) -> None:
    [rule] = put_rules({"client_id": client, "rate": 2, "window": 60, "algorithm": "fixed_window"})
    proxied.await_rules(node)
    passed = [authorize(proxied, X_User=client) for _ in range(2)]
    assert [(answer.status_code, answer.json()["remaining"]) for answer in passed] == [(200, 1), (200, 0)]
    assert passed[1].headers["RateLimit"].startswith(f'"{rule["id"]}";r=0;t=')
    denied = authorize(proxied, X_User=client, X_Correlation_ID="mine")
    assert (denied.status_code, denied.headers["Content-Type"]) == (429, PROBLEM)
    assert denied.headers["RateLimit-Policy"] == f'"{rule["id"]}";q=2;w=60'
    assert 0 < int(denied.headers["Retry-After"]) <= 60
    document = denied.json()
    assert document.keys() >= {"type", "title", "status", "detail"} | DECISION
    assert (document["status"], document["title"], document["correlation_id"]) == (429, "Too Many Requests", "mine")
    assert (document["allowed"], document["reason"]) == (False, "over_limit")
    assert f"ask again in {document['retry_after_ms'] / 1000:g} seconds" == document["detail"]
    assert proxied.check(client)["allowed"] is False  # it is the counter of checks


def test_both_doors_say_the_same(node: Node, proxied: Node, put_rules: PutRules, client: str) -> None:
    put_rules({"client_id": client, "rate": 2, "window": 60, "algorithm": "fixed_window"})
    proxied.await_rules(node)
    by_flask = {"Content-Length": "0"}  # announces a body, which the short way leaves to Flask
    for headers, key in [
        ({USER: client}, None),
        ({USER: client}, None),
        ({USER: "ip:"}, None),
        ({USER: client, "X-Org": "7", "X-Plan": ""}, None),
        ({USER: client, "X-Org": "7" * 125}, None),
        ({USER: client, "X-Org": "\xff"}, None),
        ({}, "wrong"),
        ({}, None),
    ]:
        short, flask = (
            proxied.request("GET", "/v1/authorize?cost=1", key=key, headers=headers | {"X-Correlation-ID": "x"} | more)
            for more in ({}, by_flask)
        )
        assert short.status_code == flask.status_code
        assert short.headers.keys() == flask.headers.keys()
        assert short.headers["Content-Type"] == flask.headers["Content-Type"]
        varying = {"remaining", "retry_after_ms", "reset_at"} | ({"detail"} if short.status_code == 429 else set())
        assert dropped(short.json(), varying) == dropped(flask.json(), varying)


def test_headers_name_the_groups_of_the_client(proxied: Node, database_url: str, client: str) -> None:
    engine = create_engine(database_url)
    with Session(engine) as session:
        of_org = rule("", Limit(2, 3600, "fixed_window"), group=f"org:{client}", layer="org", shared=True)
        put_rule(session, of_org)
    engine.dispose()
    proxied.put_rule(client_id=client, rate=100, window=60)  # whoever knows it knows the other
    asked = [(f"{client}-{place}", client) for place in range(3)] + [(f"{client}-3", "another")]
    answers = [authorize(proxied, X_User=user, X_Org=org).status_code for user, org in asked]
    assert answers == [200, 200, 429, 200]
    problem = problem_of(authorize(proxied, X_User=client, X_Plan="x" * 124), 422)
    assert "between 1 and 128" in str(problem["errors"]["groups"])


def dropped(document: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in names}


@pytest.mark.parametrize(
    ("query", "question"),
    [
        ("", ("global", 1)),
        ("limit_key=a-B.9_", ("a-B.9_", 1)),
        ("cost=10", ("global", 10)),
        ("limit_key=login&cost=3", ("login", 3)),
        ("cost=3&limit_key=login", None),
        ("limit_key=", None),
        ("limit_key=acost=1", None),
        ("limit_key=a%20b", None),
        ("cost=0", None),
        ("cost=1000000000", None),
        ("page=2", None),
        (f"limit_key={'x' * 128}&cost=999999999", ("x" * 128, 999_999_999)),
        (f"limit_key={'x' * 129}", None),
        (f"limit_key={'x' * 4000}", None),
    ],
)
def test_the_short_way_reads_plain_queries_only(query: str, question: tuple[str, int] | None) -> None:
    assert simple_query(query) == question


def test_a_blocked_client_is_told_no_time(node: Node, proxied: Node, put_rules: PutRules, client: str) -> None:
    put_rules({"client_id": client, "action": "block"})
    proxied.await_rules(node)
    denied = authorize(proxied, X_User=client)
    assert (denied.status_code, denied.json()["retry_after_ms"]) == (429, None)
    assert "Retry-After" not in denied.headers


def test_limit_key_and_cost_are_the_routes(node: Node, proxied: Node, put_rules: PutRules, client: str) -> None:
    rule = {"client_id": client, "rate": 100, "window": 60}
    put_rules(rule, rule | {"endpoint": "login", "rate": 5})
    proxied.await_rules(node)
    left = [
        authorize(proxied, path, X_User=client).json()["remaining"]
        for path in ("?limit_key=login", "?limit_key=login&cost=3", "", "?cost=10", "/login", "/other")
    ]
    assert left == [4, 1, 99, 89, 0, 88]


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "PATCH", "DELETE", "PROPFIND"])
@pytest.mark.parametrize("path", ["?limit_key=any", "/any", "/any/", "/any/of//the/client's?limit_key=own&cost=0"])
def test_every_method_is_charged_whatever_the_client_appends(
    proxied: Node, client: str, method: str, path: str
) -> None:
    assert authorize(proxied, path, method=method, X_User=client).status_code == 200
    assert proxied.check(client, cost=0)["remaining"] == 99


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["", "?limit_key=any&cost=5", "/any", "/any/of/the/client's?limit_key=own"])
def test_options_and_trace_charge_nobody(
    node: Node, proxied: Node, put_rules: PutRules, client: str, method: str, path: str
) -> None:
    answers = [authorize(proxied, path, method=method, X_User=client) for _ in range(2)]
    assert [(answer.status_code, answer.json()["remaining"]) for answer in answers] == [(200, 100)] * 2
    assert proxied.check(client, cost=0)["remaining"] == 100
    problem_of(authorize(proxied, path, method=method, key="wrong", X_User=client), 401)


def test_a_blocked_client_is_denied_whatever_the_method(
    node: Node, proxied: Node, put_rules: PutRules, client: str
) -> None:
    put_rules({"client_id": client, "action": "block"})
    proxied.await_rules(node)
    for method in ("OPTIONS", "TRACE", "GET"):
        assert authorize(proxied, method=method, X_User=client).status_code == 429


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("path", ["?limit_key=any", "/any/of/the/client's"])
@pytest.mark.parametrize(
    "announced",
    [
        b"Content-Length: 1000000\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 9\r\nContent-Encoding: br\r\n",
    ],
)
def test_a_body_is_not_waited_for_and_ends_the_connection(
    proxied: Node, client: str, method: str, path: str, announced: bytes
) -> None:
    """A proxy may pass on the head of its client's request, and keep the body."""
    head = request(f"{method} /v1/authorize{path}", f"{USER}: {client}\r\n".encode(), announced)
    answer = exchange(proxied.port, head + request("GET /livez"))
    assert (statuses(answer.raw), answer.headers["Connection"]) == ([200], "close")
    assert proxied.check(client, cost=0)["remaining"] == 99


@pytest.mark.parametrize(
    "query",
    [
        "cost=0",
        "cost=-1",
        "cost=1.5",
        "cost=x",
        "cost=1000000001",
        "limit_key=",
        f"limit_key={'x' * 129}",
        "page=2",
        "cost=1&cost=2",
    ],
)
def test_a_bad_query_is_named_and_charges_nothing(proxied: Node, client: str, query: str) -> None:
    problem = problem_of(authorize(proxied, f"?{query}", X_User=client), 422)
    assert problem["errors"].keys() == {query.partition("=")[0]}
    assert proxied.check(client, cost=0)["remaining"] == 100


@pytest.mark.parametrize(
    ("user", "status"), [("x" * 256, 200), ("x" * 257, 422), ("a\x85b", 422), ("a\x01b", 400), ("caf\xe9", 200)]
)
def test_an_id_from_the_header_is_held_to_the_rules_of_checks(proxied: Node, user: str, status: int) -> None:
    header = f"{USER}: {user}\r\n".encode()
    assert exchange(proxied.port, request("GET /v1/authorize", header, CLOSE)).status_code == status


def test_an_id_from_the_header_is_the_same_id_in_a_check(proxied: Node, client: str) -> None:
    header = f"{USER}: {client}-café\r\n".encode()
    assert exchange(proxied.port, request("GET /v1/authorize", header, CLOSE)).status_code == 200
    assert proxied.check(f"{client}-café", cost=0)["remaining"] == 99
    latin = f"{USER}: caf\xe9\r\n".encode("latin-1")
    assert (
        "is not UTF-8" in problem_of(exchange(proxied.port, request("GET /v1/authorize", latin, CLOSE)), 400)["detail"]
    )


def test_a_wrong_key_is_refused_and_so_is_one_without_the_scope(
    node: Node, proxied: Node, make_key: MakeKey, client: str
) -> None:
    lacking = make_key("rules:read")["key"]
    proxied.await_rules(node)
    problem_of(authorize(proxied, key="wrong", X_User=client), 401)
    problem_of(authorize(proxied, key=lacking, X_User=client), 403)
    assert proxied.check(client, cost=0)["remaining"] == 100


def test_without_both_the_address_is_the_client(proxied: Node, client: str) -> None:
    address = f"2001:db8:{client[-4:]}::1"
    answers = [authorize(proxied, X_Forwarded_For=f"198.51.100.{n}, {address}, 127.0.0.1") for n in range(2)]
    assert [answer.json()["remaining"] for answer in answers] == [99, 98]


def test_a_peer_that_is_no_proxy_speaks_for_himself_only(node: Node) -> None:
    told = authorize(node, X_Forwarded_For="198.51.100.7")
    assert "127.0.0.1, which is not among TRUSTED_PROXIES" in problem_of(told, 403)["detail"]
    assert authorize(node, "?limit_key=direct", X_User="ignored").status_code == 200
    assert node.check("ignored", cost=0)["remaining"] == 100
    assert node.check("ip:127.0.0.1", cost=0)["remaining"] < 100


def test_it_is_counted_as_a_check_is(node: Node, proxied: Node, put_rules: PutRules, client: str) -> None:
    put_rules({"client_id": client, "rate": 1, "window": 60})
    proxied.await_rules(node)
    checks = proxied.metric("ratelimiter_check_duration_seconds_count")
    assert [authorize(proxied, X_User=client).status_code for _ in range(3)] == [200, 429, 429]
    labels = f'{{client_id="{client}",endpoint="*"}}'
    assert proxied.metric(f"ratelimiter_allowed_total{labels}") == 1
    assert proxied.metric(f"ratelimiter_blocked_total{labels}") == 2
    assert proxied.metric("ratelimiter_check_duration_seconds_count") == checks + 3
    assert "/v1/authorize" not in proxied.request("GET", "/metrics", key=None).text


@pytest.fixture(scope="module")
def strict(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that wants a key, and whose Redis is not there; the proxy's key names no client."""
    with Node(
        redis_url="redis://127.0.0.1:1/0",
        database_url=database_url,
        data_dir=tmp_path_factory.mktemp("strict"),
        CHECK_AUTH="required",
        TRUSTED_PROXIES="127.0.0.1",
        AUTHORIZE_BY="address",
        FAIL_MODE="closed",
        WEB_CONCURRENCY=1,
    ) as node:
        yield node


def test_where_checks_need_a_key_so_does_it(strict: Node) -> None:
    problem_of(authorize(strict, X_Forwarded_For="198.51.100.8"), 401)
    assert "sent no X-Forwarded-For" in problem_of(authorize(strict, key=ADMIN_KEY), 400)["detail"]


def test_what_cannot_be_decided_is_503_with_the_time_to_wait(strict: Node) -> None:
    answer = authorize(strict, key=ADMIN_KEY, X_Forwarded_For="198.51.100.8")
    problem_of(answer, 503)
    assert int(answer.headers["Retry-After"]) >= 1


def test_while_redis_is_away_open_lets_pass(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("open")
    with Node(redis_url="redis://127.0.0.1:1/0", database_url=database_url, data_dir=directory) as node:
        answer = authorize(node)
        assert (answer.status_code, answer.json()["degraded"]) == (200, True)
