"""What is malformed is refused by its kind: no byte of it, which may be a secret, stands in answer or log."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gunicorn.http import errors

from app.server.head import MAX_HEAD
from app.server.refusals import refusal
from devstack import Valkey
from tests.api.raw_http import CLOSE, HOST, JSON, exchange, post, request, statuses
from tests.support.node import ADMIN_KEY, Node

SECRET = ADMIN_KEY.encode()
KEY = b"X-API-Key: " + SECRET + b"\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"

MALFORMED = {
    "a field without a colon": (request("GET /livez", KEY.replace(b":", b"")), 400),
    "a field with a control character": (request("GET /livez", KEY.replace(b"\r\n", b"\x00\r\n")), 400),
    "a field with a bare line feed": (request("GET /livez", KEY.replace(b"\r\n", b"\nX: x\r\n")), 400),
    "a field over two lines": (request("GET /livez", KEY.replace(b": ", b":\r\n ")), 400),
    "a name with a space": (request("GET /livez", SECRET + b" : x\r\n"), 400),
    "a coding": (request("POST /v1/check", JSON, b"Transfer-Encoding: " + SECRET + b"\r\n"), 400),
    "an expectation": (post("/v1/check", b"{}", b"Expect: " + SECRET + b"\r\n"), 400),
    "a host twice": (request("GET /livez", b"Host: " + SECRET + b"\r\n"), 400),
    "a length": (request("POST /v1/check", JSON, b"Content-Length: " + SECRET + b"\r\n"), 400),
    "a method": (SECRET + b" /livez HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a target": (b"GET " + SECRET + b" HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a target with a space": (b"GET /livez?key=" + SECRET + b" x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a version": (b"GET /livez " + SECRET + b"\r\n" + HOST + b"\r\n", 400),
    "no HTTP": (SECRET + b"\r\n\r\n", 400),
    "a body longer than its length": (post("/v1/check", b'{"client_id":"%b"}' % SECRET, length=2), 400),
    "a long line": (request("GET /livez?" + "x" * 10_000 + ADMIN_KEY), 414),
    "a line without an end": (b"GET /" + SECRET * MAX_HEAD, 414),
    "a long field": (request("GET /livez", b"X: " + SECRET * 1000 + b"\r\n"), 431),
    "a head above the bound": (request("GET /livez", *[b"X: " + SECRET * 250 + b"\r\n"] * 5), 431),
    "many fields": (request("GET /livez", KEY * 60), 431),
    "a chunk": (request("POST /v1/admin/rules", JSON, CHUNKED, KEY, body=SECRET + b"\r\n"), 411),
    "half a head": (request("GET /livez", KEY)[:-2], 0),
    "half a line": (b"GET /livez?key=" + SECRET, 0),
    "half a body": (post("/v1/check", b'{"client_id":"' + SECRET, KEY, length=1000), 400),
}


@pytest.fixture(scope="module")
def talkative(valkey: Valkey, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """With everything in its log."""
    data_dir = tmp_path_factory.mktemp("talkative")
    with Node(redis_url=valkey.url, database_url=database_url, data_dir=data_dir, LOG_LEVEL="DEBUG") as node:
        yield node


@pytest.mark.parametrize(("sent", "status"), MALFORMED.values(), ids=MALFORMED)
def test_a_secret_in_a_malformed_request_stays_one(talkative: Node, sent: bytes, status: int) -> None:
    """Status 0: the connection ends without an answer."""
    before = len(talkative.log.read_bytes())
    for prefix in (b"", request("GET /livez"), post("/v1/check", b'{"client_id":"secrets","cost":0}')):
        answer = exchange(talkative.port, prefix + sent, end=True)
        assert statuses(answer.raw) == [200] * bool(prefix) + [status] * bool(status)
        assert SECRET not in answer.raw
    exchange(talkative.port, request("GET /livez", CLOSE))
    logged = talkative.log.read_bytes()[before:]
    assert SECRET not in logged
    assert b"Traceback" not in logged


def test_every_error_of_the_parser_has_a_wording() -> None:
    """But for the two that the application makes: these are 500, and so is what is no error of parsing."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    own = {errors.InvalidResponseHeader, errors.InvalidResponseHeaderName, errors.NoMoreData}
    for kind in kinds:
        refused = refusal(kind.__new__(kind))
        assert (refused is None) == (kind in own), kind
        assert refused is None or refused[0].startswith("4")
    assert refusal(ValueError()) is None
