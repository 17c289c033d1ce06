"""X-Correlation-ID: the caller's own where it is well-formed, else a new one; on every answer."""

from __future__ import annotations

import uuid

import pytest

from tests.api.raw_http import CLOSE, exchange, post, request
from tests.support.node import Node

HEADER = "X-Correlation-ID"
# method, path, body as JSON, the status that comes
ANSWERS = [
    ("POST", "/v1/check", {"client_id": "x"}, 200),
    ("POST", "/v1/check", {}, 422),
    ("POST", "/v1/check/batch", {"checks": [{"client_id": "x"}]}, 200),
    ("POST", "/v1/check/batch", {"checks": []}, 422),
    ("GET", "/v1/check", None, 405),
    ("GET", "/nowhere", None, 404),
    ("GET", "/rules", None, 401),
    ("POST", "/v1/admin/rules", {}, 401),
    ("GET", "/health", None, 200),
    ("GET", "/livez", None, 200),
    ("GET", "/readyz", None, 200),
    ("GET", "/metrics", None, 200),
    ("GET", "/openapi.json", None, 200),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), ANSWERS)
def test_every_answer_returns_the_id_of_its_request(
    node: Node, method: str, path: str, body: object, status: int
) -> None:
    sent = f"Order-66.{uuid.uuid4().hex}_x"
    answer = node.request(method, path, key=None, json=body, headers={HEADER: sent})
    assert (answer.status_code, answer.headers[HEADER]) == (status, sent)


@pytest.mark.parametrize("sent", ["a", "A-z_0.9", "0" * 64, "b0a4c1de-9f42-4c53-8d9b-0f6a1c2e7d31"])
def test_a_well_formed_id_is_kept(node: Node, client: str, sent: str) -> None:
    answer = node.request("POST", "/v1/check", key=None, json={"client_id": client}, headers={HEADER: sent})
    assert answer.headers[HEADER] == sent


@pytest.mark.parametrize(
    "sent",
    ["", "0" * 65, "a b", "a,b", "a/b", "a:b", "{}", '"a"', "<b>", "%0d%0aSet-Cookie:%20a=b", "ä", "a\tb", "a;b", "*"],
)
def test_any_other_id_is_replaced_by_a_new_uuid4(node: Node, sent: str) -> None:
    answers = [node.request("GET", "/livez", key=None, headers={HEADER: sent.encode()}) for _ in range(2)]
    given = [answer.headers[HEADER] for answer in answers]
    assert given[0] != given[1]
    assert {uuid.UUID(value).version for value in given} == {4}
    assert given == [str(uuid.UUID(value)) for value in given]
    assert "Set-Cookie" not in answers[0].headers


def test_without_an_id_each_request_gets_its_own(node: Node) -> None:
    given = [node.request("GET", "/livez", key=None).headers[HEADER] for _ in range(3)]
    assert len(set(given)) == 3
    assert {uuid.UUID(value).version for value in given} == {4}


def test_two_ids_are_none(node: Node) -> None:
    answer = exchange(node.port, request("GET /livez", CLOSE, b"X-Correlation-ID: one\r\nX-Correlation-ID: two\r\n"))
    assert answer.raw.lower().count(b"x-correlation-id:") == 1
    assert uuid.UUID(answer.headers[HEADER]).version == 4


@pytest.mark.parametrize(
    "line", [b"X-Correlation-ID: a\rSet-Cookie: b=c\r\n", b"X-Correlation-ID: a\r\n Set-Cookie: b=c\r\n"]
)
def test_an_id_cannot_smuggle_a_header_into_the_answer(node: Node, line: bytes) -> None:
    answer = exchange(node.port, post("/v1/check", b'{"client_id":"x"}', CLOSE, line))
    assert answer.status_code == 400
    assert "Set-Cookie" not in answer.headers
