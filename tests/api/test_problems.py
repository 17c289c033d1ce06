"""Errors: each status as an RFC 9457 document, and connections that end where a body was refused unread."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from app.api.request_body import MAX_BYTES_OF_IMPORT
from tests.api.raw_http import CLOSE, HOST, JSON, exchange, post, problem_of, request, statuses
from tests.support.node import ADMIN_KEY, Node

CHECK = b'{"client_id":"problem"}'
KEY = b"Authorization: Bearer " + ADMIN_KEY.encode() + b"\r\n"
WRONG_KEY = b"X-API-Key: wrong\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(CHECK), CHECK)
STOCK = b"TE: trailers\r\n"  # leaves the fast lane
KIBIBYTE = 1024
NAMES = "Allowed are 1 to 64 of the letters A-Z and a-z, digits, '.', '_' and '-'."


def _sized(size: int) -> bytes:
    """A valid check or rule in so many bytes."""
    return CHECK + b" " * (size - len(CHECK))


REFUSED = {
    "no JSON": (post("/v1/check", b"{", CLOSE), 400),
    "no JSON in a rule": (post("/v1/admin/rules", b"{", CLOSE, KEY), 400),
    "an unknown key": (post("/v1/check", CHECK, CLOSE, WRONG_KEY), 401),
    "no key for rules": (request("GET /v1/admin/rules", CLOSE), 401),
    "no such path": (request("GET /v1/nothing", CLOSE), 404),
    "no such rule": (request("GET /v1/admin/rules/2147483647", CLOSE, KEY), 404),
    "a number no rule can have": (request(f"GET /v1/admin/rules/{'9' * 40}", CLOSE, KEY), 404),
    "another method": (request("GET /v1/check", CLOSE), 405),
    "a method nobody knows": (request("BREW /health", CLOSE), 405),
    "no length": (request("POST /v1/check", JSON), 411),
    "chunks": (request("POST /v1/check", JSON, CHUNKED, body=CHUNKS), 411),
    "chunks in a batch": (request("POST /v1/check/batch", JSON, CHUNKED, body=CHUNKS), 411),
    "8 KiB and one": (post("/v1/check", _sized(8 * KIBIBYTE + 1)), 413),
    "256 KiB and one": (post("/v1/check/batch", _sized(256 * KIBIBYTE + 1)), 413),
    "a rule above 64 KiB": (post("/v1/admin/rules", _sized(64 * KIBIBYTE + 1), KEY), 413),
    "a template above 64 KiB": (post("/v1/admin/templates", _sized(64 * KIBIBYTE + 1), KEY), 413),
    "a tenant above 16 KiB": (post("/v1/admin/tenants", _sized(16 * KIBIBYTE + 1), KEY), 413),
    "an import above 64 MiB": (post("/v1/admin/import", CHECK, KEY, length=MAX_BYTES_OF_IMPORT + 1), 413),
    "an import in chunks above 64 MiB": (
        request("POST /v1/admin/import", JSON, KEY, CHUNKED, body=b"4000001\r\n" + b" " * 0x4000001 + b"\r\n0\r\n\r\n"),
        413,
    ),
    "an import in too many chunks": (
        request(
            "POST /v1/admin/import",
            JSON,
            KEY,
            CHUNKED,
            body=b"1\r\n \r\n" * 20_000 + b"0\r\n\r\n",
        ),
        400,
    ),
    "a long body of a stranger": (post("/v1/admin/import", _sized(KIBIBYTE * KIBIBYTE)), 401),
    "a long batch of a stranger": (post("/v1/check/batch", _sized(256 * KIBIBYTE), WRONG_KEY, STOCK), 401),
    "a long body that nobody wants": (request("PUT /v1/check", b"Content-Length: 99999\r\n", body=b"x" * 99_999), 405),
    "a body of GET": (request("GET /v1/admin/rules", b"Content-Length: 2\r\n", KEY, body=b"{}"), 400),
    "a body of DELETE": (request("DELETE /v1/admin/rules/0", b"Content-Length: 2\r\n", KEY, body=b"{}"), 400),
    "a body of OPTIONS": (request("OPTIONS /v1/check", b"Content-Length: 2\r\n", body=b"{}"), 400),
    "a body of nothing": (post("/v1/nothing", CHECK), 400),
    "chunks of GET": (request("GET /livez", CHUNKED, body=CHUNKS), 400),
    "chunks of nothing": (request("POST /v1/nothing", CHUNKED, body=CHUNKS), 400),
    "chunks in a rule": (request("POST /v1/admin/rules", JSON, KEY, CHUNKED, body=CHUNKS), 411),
    "a compressed check": (post("/v1/check", CHECK, b"Content-Encoding: gzip\r\n"), 415),
    "a compressed import": (post("/v1/admin/import", CHECK, KEY, b"Content-Encoding: br\r\n"), 415),
    "a length beyond numbers": (request("POST /v1/check", JSON, b"Content-Length: %s\r\n" % (b"9" * 1000)), 413),
    "10 MB that nobody reads": (post("/v1/check", _sized(10_000_000)), 413),
    "chunks without end": (request("POST /v1/check", JSON, CHUNKED, body=b"f4240\r\n" + b"x" * 1_000_000), 411),
    "text": (request("POST /v1/check", CLOSE, b"Content-Type: text/plain\r\nContent-Length: 2\r\n", body=b"{}"), 415),
    "no type": (request("POST /v1/check", CLOSE, b"Content-Length: 2\r\n", body=b"{}"), 415),
    "a rule in text": (request("POST /v1/admin/rules", CLOSE, KEY, b"Content-Length: 2\r\n", body=b"{}"), 415),
    "not valid": (post("/v1/check", b"{}", CLOSE), 422),
    "not a valid rule": (post("/v1/admin/rules", b"{}", CLOSE, KEY), 422),
    "broken chunks": (request("POST /v1/admin/import", JSON, KEY, CHUNKED, body=b"what\r\n"), 400),
}
BARE = {
    "a long line": (request("GET /" + "x" * 10_000), 414),
    "a long header": (request("GET /livez", b"X: " + b"x" * 10_000 + b"\r\n"), 431),
    "many headers": (request("GET /livez", b"X: x\r\n" * 100), 431),
    "no HTTP": (b"\x00\x01\x02\r\n\r\n", 400),
    "HTTP/2 unasked": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "another version": (b"GET /livez HTTP/3.0\r\n" + HOST + b"\r\n", 400),
    "an unknown coding": (request("POST /v1/check", JSON, b"Transfer-Encoding: zip\r\n"), 400),
    "a megabyte of header": (request("GET /livez", b"X: " + b"x" * 1_000_000 + b"\r\n"), 431),
    "no colon": (request("GET /livez", b"header\r\n"), 400),
    "a folded header": (request("GET /livez", b"X: a\r\n b\r\n"), 400),
    "two lengths": (post("/v1/check", CHECK, b"Content-Length: 1\r\n"), 400),
    "a negative length": (request("POST /v1/check", JSON, b"Content-Length: -1\r\n", body=CHECK), 400),
    "a length and chunks": (post("/v1/check", CHUNKS, CHUNKED), 400),
    "two hosts": (request("GET /livez", HOST), 400),
}


@pytest.mark.parametrize(("sent", "status"), REFUSED.values(), ids=REFUSED)
def test_each_refusal_is_a_problem_document(node: Node, sent: bytes, status: int) -> None:
    """Each connection ends, too: by request, or because the body was not read. The answer arrives whole."""
    answer = exchange(node.port, sent)
    problem_of(answer, status)
    assert statuses(answer.raw) == [status]
    assert "Traceback" not in answer.raw.decode()


@pytest.mark.parametrize(("sent", "status"), BARE.values(), ids=BARE)
def test_a_head_that_is_no_http_gets_the_servers_bare_status(node: Node, sent: bytes, status: int) -> None:
    answer = exchange(node.port, sent)
    assert statuses(answer.raw) == [status]
    assert b"Traceback" not in answer.raw


def test_what_is_no_body_is_none(node: Node) -> None:
    """Many clients announce one of no bytes, whatever the method."""
    empty = b"Content-Length: 0\r\n"
    pipeline = request("GET /livez", empty) + request("DELETE /v1/nothing", empty) + request("GET /livez", CLOSE, empty)
    assert statuses(exchange(node.port, pipeline).raw) == [200, 404, 200]


def test_a_body_of_head_is_refused_too(node: Node) -> None:
    sent = request("HEAD /livez", b"Content-Length: 2\r\n", body=b"{}") + request("GET /livez")
    assert statuses(exchange(node.port, sent).raw) == [400]


def test_a_compressed_body_is_told_what_is_accepted(node: Node) -> None:
    answer = exchange(node.port, post("/v1/check", CHECK, b"Content-Encoding: gzip\r\n"))
    problem_of(answer, 415)
    assert answer.headers["Accept-Encoding"] == "identity"
    plain = post("/v1/check", CHECK, CLOSE, b"Content-Encoding: identity\r\n")
    assert exchange(node.port, plain).status_code == 200


def test_an_import_may_come_in_chunks(node: Node) -> None:
    file = b'{"rules": []}'
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in file) + b"0\r\n\r\n"
    sent = request("POST /v1/admin/import?dry_run=true", JSON, KEY, CHUNKED, body=chunks) + request("GET /livez", CLOSE)
    assert statuses(exchange(node.port, sent).raw) == [200, 200]


def test_a_body_that_does_not_come_in_two_seconds_is_408_and_the_end_of_the_connection(node: Node) -> None:
    slow = [post(path, CHECK[:5], KEY, length=len(CHECK)) for path in ("/v1/check", "/v1/admin/rules")]
    slow += [request("POST /v1/admin/import", JSON, KEY, CHUNKED, body=b"5\r\n{")]
    with ThreadPoolExecutor() as at_once:
        for answer in at_once.map(lambda sent: exchange(node.port, sent, seconds=8), slow):
            problem_of(answer, 408)
            assert answer.headers["Connection"] == "close"


@pytest.mark.parametrize("path", ["/v1/check", "/v1/check/batch", "/v1/admin/rules"])
def test_a_body_shorter_than_announced_is_refused(node: Node, path: str) -> None:
    problem_of(exchange(node.port, post(path, CHECK, KEY, length=100), end=True), 400)


def test_a_body_that_ends_early_charges_nothing(node: Node, client: str) -> None:
    whole = json.dumps({"client_id": client}).encode()
    exchange(node.port, post("/v1/check", whole, length=len(whole) + 1), end=True)
    assert node.check(client, cost=0)["remaining"] == 100


def test_what_follows_a_refused_body_is_not_taken_for_a_request(node: Node) -> None:
    smuggled = request("GET /livez")
    answer = exchange(node.port, request("POST /v1/check", JSON, CHUNKED, body=smuggled))
    assert statuses(answer.raw) == [411]


def test_a_body_of_the_largest_size_is_read(node: Node, client: str) -> None:
    body = json.dumps({"client_id": client}).encode()
    assert exchange(node.port, post("/v1/check", body.ljust(8 * KIBIBYTE), CLOSE)).status_code == 200
    body = json.dumps({"checks": [{"client_id": client}]}).encode()
    assert exchange(node.port, post("/v1/check/batch", body.ljust(256 * KIBIBYTE), CLOSE)).status_code == 200


def test_a_client_that_waits_for_100_continue_gets_it(node: Node, client: str) -> None:
    body = json.dumps({"client_id": client}).encode()
    answer = exchange(node.port, post("/v1/check", body, CLOSE, b"Expect: 100-continue\r\n"))
    assert statuses(answer.raw) == [100, 200]


def test_a_connection_serves_the_next_request_after_an_error_whose_body_was_read(node: Node) -> None:
    pipeline = (
        post("/v1/check", b"{") + post("/v1/check", b"{}") + request("GET /nothing") + request("GET /livez", CLOSE)
    )
    assert statuses(exchange(node.port, pipeline).raw) == [400, 422, 404, 200]


@pytest.mark.parametrize("name", [b"SCRIPT_NAME", b"PATH_INFO", b"X_API_KEY", b"REMOTE_USER"])
def test_a_header_cannot_pose_as_a_variable_of_the_server(node: Node, name: bytes) -> None:
    answer = exchange(node.port, request("GET /v1/admin/rules", CLOSE, name + b": /health\r\n"))
    problem_of(answer, 401)


def test_a_405_names_the_methods_that_are_allowed(node: Node) -> None:
    answer = node.request("PUT", "/v1/check", key=None)
    problem_of(answer, 405)
    assert "POST" in answer.headers["Allow"].split(", ")


@pytest.mark.parametrize("path", ["/", "/v1/checks", "/v1/admin/rules/one"])
def test_a_path_that_is_none_names_the_page_that_lists_them(node: Node, path: str) -> None:
    problem = problem_of(node.request("GET", path, key=None), 404)
    assert problem["detail"] == "there is no such path; /docs lists all paths"


def test_a_401_names_the_scheme(node: Node) -> None:
    answer = node.request("GET", "/rules", key=None)
    problem_of(answer, 401)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_422_maps_fields_to_messages(node: Node) -> None:
    answer = node.request("POST", "/v1/check", key=None, json={"client_id": "", "cost": -1, "colour": "red"})
    errors = problem_of(answer, 422)["errors"]
    assert set(errors) == {"client_id", "cost", "colour"}
    assert all(isinstance(message, str) for messages in errors.values() for message in messages)


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/v1/check", [], {"_schema": ["This must be an object."]}),
        ("/v1/check/batch", {"checks": [1]}, {"checks": {"0": {"_schema": ["This must be an object."]}}}),
        ("/v1/admin/rules", [], {"_schema": ["This must be an object."]}),
        ("/v1/check", {"client_id": "a", "request_id": "a b"}, {"request_id": [NAMES]}),
        ("/v1/admin/templates", {"name": "a/b", "rate": 1, "window": 1}, {"name": [NAMES]}),
        (
            "/v1/admin/rules",
            {"client_id": "a", "limit_key": "login", "rate": 1, "window": 1},
            {"limit_key": ["In a rule this is called endpoint."]},
        ),
    ],
    ids=str,
)
def test_a_message_says_what_is_allowed(node: Node, path: str, body: Any, told: dict[str, Any]) -> None:
    key = ADMIN_KEY if "admin" in path else None
    assert problem_of(node.request("POST", path, key=key, json=body), 422)["errors"] == told
