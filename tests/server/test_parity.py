"""The fast lane answers as gunicorn and Flask do, or leaves the request to them: same status, headers and body."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.api.raw_http import CLOSE, JSON, post, request
from tests.server.doors import Doors, answers, spoken
from tests.support.examples import examples
from tests.support.node import ADMIN_KEY

PEEK = b'{"client_id":"parity","cost":0}'
ID = b"X-Correlation-ID: parity\r\n"
KEY = f"X-API-Key: {ADMIN_KEY}\r\n".encode()
BEARER = f"Authorization: Bearer {ADMIN_KEY}\r\n".encode()
TRACE = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
CHECK = post("/v1/check", PEEK, ID)
HEAD = CHECK[: -len(PEEK)]
LENGTH = b"Content-Length: %d\r\n" % len(PEEK)

CORPUS = {
    "a plain check": CHECK,
    "without a correlation id": post("/v1/check", PEEK),
    "with a malformed correlation id": post("/v1/check", PEEK, b"X-Correlation-ID: two words\r\n"),
    "with a trace": post("/v1/check", PEEK, ID, TRACE, b"tracestate: a=b\r\n"),
    "with two traces": post("/v1/check", PEEK, ID, TRACE, TRACE),
    "a plain batch": post("/v1/check/batch", b'{"checks":[' + PEEK + b"," + PEEK + b"]}", ID),
    "two at once": CHECK + CHECK,
    "a check, then another route, then a check": CHECK + request("GET /livez") + CHECK,
    "a check, then garbage": CHECK + b"\x00\x01garbage\r\n\r\n",
    "a check, then an empty line": CHECK + b"\r\n" + CHECK,
    "an empty line first": b"\r\n" + CHECK,
    "with the key": post("/v1/check", PEEK, ID, KEY),
    "with a bearer": post("/v1/check", PEEK, ID, BEARER),
    "with a wrong key": post("/v1/check", PEEK, ID, b"X-API-Key: wrong\r\n"),
    "a long batch": post("/v1/check/batch", (b'{"checks":[' + PEEK + b"]}").ljust(100_000), ID) + CHECK,
    "a long batch with a wrong key": post("/v1/check/batch", b" " * 100_000, ID, b"X-API-Key: wrong\r\n") + CHECK,
    "with two keys": post("/v1/check", PEEK, ID, KEY, b"X-API-Key: wrong\r\n"),
    "with a bearer and a wrong key": post("/v1/check", PEEK, ID, BEARER, b"X-API-Key: wrong\r\n"),
    "with the key twice": post("/v1/check", PEEK, ID, BEARER, KEY),
    "with a Basic header": post("/v1/check", PEEK, ID, b"Authorization: Basic eDp5\r\n"),
    "an invalid check": post("/v1/check", b'{"client_id":""}', ID),
    "no JSON": post("/v1/check", b"nonsense", ID),
    "an empty body": post("/v1/check", b"", ID),
    "GET": request("GET /v1/check", ID),
    "PUT": request("PUT /v1/check", JSON, LENGTH, ID, body=PEEK),
    "another path": post("/v1/checks", PEEK, ID),
    "a query": post("/v1/check?a=b", PEEK, ID),
    "a fragment": post("/v1/check#a", PEEK, ID),
    "an absolute target": post("http://limiter.test/v1/check", PEEK, ID),
    "an escaped path": post("/v1/%63heck", PEEK, ID),
    "doubled slashes": post("//v1/check", PEEK, ID),
    "HTTP/1.0": CHECK.replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "HTTP/1.0 kept alive": post("/v1/check", PEEK, b"Connection: keep-alive\r\n").replace(b"/1.1", b"/1.0", 1),
    "HTTP/2.0": CHECK.replace(b"HTTP/1.1", b"HTTP/2.0", 1),
    "Connection: close": post("/v1/check", PEEK, ID, CLOSE),
    "Connection: keep-alive": post("/v1/check", PEEK, ID, b"Connection: keep-alive\r\n"),
    "Connection: upgrade": post("/v1/check", PEEK, ID, b"Connection: upgrade\r\nUpgrade: websocket\r\n"),
    "Expect": post("/v1/check", PEEK, ID, b"Expect: 100-continue\r\n"),
    "chunked": request("POST /v1/check", JSON, b"Transfer-Encoding: chunked\r\n", ID, body=b"2\r\n{}\r\n0\r\n\r\n"),
    "length and chunked": post("/v1/check", PEEK, b"Transfer-Encoding: chunked\r\n"),
    "chunked and length": request("POST /v1/check", JSON, b"Transfer-Encoding: chunked\r\n", LENGTH, body=PEEK),
    "two equal lengths": post("/v1/check", PEEK, LENGTH),
    "two lengths": post("/v1/check", PEEK, b"Content-Length: 3\r\n"),
    "a list of lengths": request("POST /v1/check", JSON, b"Content-Length: 31, 31\r\n", body=PEEK),
    "a signed length": request("POST /v1/check", JSON, b"Content-Length: +31\r\n", body=PEEK),
    "a hexadecimal length": request("POST /v1/check", JSON, b"Content-Length: 0x1f\r\n", body=PEEK),
    "a length with a leading zero": request("POST /v1/check", JSON, b"Content-Length: 031\r\n", body=PEEK),
    "an immense length": request("POST /v1/check", JSON, b"Content-Length: 99999999999999999999\r\n", body=PEEK),
    "no length": request("POST /v1/check", JSON, body=PEEK),
    "a longer length than the body": post("/v1/check", PEEK, ID, length=len(PEEK) + 5),
    "a shorter length than the body": post("/v1/check", PEEK, ID, length=len(PEEK) - 5),
    **{
        f"Content-Length:{value!r}": request("POST /v1/check", JSON, b"Content-Length:" + value + b"\r\n", body=PEEK)
        for value in (
            b"31",
            b"\t 31 \t",
            b" 31;",
            b" -1",
            b" 3 1",
            b" 1e1",
            b" 31_0",
            b" \xb231",
            b" \x0b31",
            b"",
            b" 0",
            b" " * 99,
        )
    },
    **{
        f"length and {header!r}": post("/v1/check", PEEK, ID, header + b"\r\n")
        for header in (
            b"Transfer-Encoding: identity",
            b"Transfer-Encoding: gzip, chunked",
            b"Transfer-Encoding: chunked, identity",
            b"Transfer-Encoding: xchunked",
            b"Transfer-Encoding:\tchunked",
            b"Transfer-Encoding: \x0bchunked",
            b"Transfer-Encoding : chunked",
            b"Transfer-Encoding:",
            b"transfer-encoding: CHUNKED",
            b"Transfer_Encoding: chunked",
            b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
            b"X-A: b\r\n Transfer-Encoding: chunked",
            b"Content-Encoding: gzip",
            b"Connection: Content-Length",
            b"Connection: keep-alive, close",
            b"Connection: keep-alive\r\nConnection: close",
            b"Connection:",
        )
    },
    "names in capitals": HEAD.upper().replace(b"/V1/CHECK", b"/v1/check").replace(b"/JSON", b"/json") + PEEK,
    "names in small letters": CHECK.replace(b"Host", b"host").replace(b"Content-", b"content-").replace(b"X-C", b"x-c"),
    "no spaces after colons": HEAD.replace(b": ", b":") + PEEK,
    "spaces and tabs around values": HEAD.replace(b": ", b": \t ").replace(b"\r\nC", b" \t \r\nC") + PEEK,
    "a folded length": request("POST /v1/check", JSON, b"Content-Length:\r\n 31\r\n", body=PEEK),
    "a fold before the first header": CHECK.replace(b"Host:", b" Host:", 1),
    "a fold with a tab": post("/v1/check", PEEK, b"X-A: b\r\n\tc\r\n"),
    "bare line feeds": CHECK.replace(b"\r\n", b"\n"),
    "one bare line feed": CHECK.replace(b"limiter.test\r\n", b"limiter.test\n"),
    "a bare carriage return": post("/v1/check", PEEK, b"X-A: b\rc\r\n"),
    "a folded header": post("/v1/check", PEEK, b"X-A: b\r\n c\r\n"),
    "a space before the colon": post("/v1/check", PEEK, b"X-A : b\r\n"),
    "a header without a name": post("/v1/check", PEEK, b": b\r\n"),
    "a header without a colon": post("/v1/check", PEEK, b"nothing\r\n"),
    "an underscore in a name": post("/v1/check", PEEK, ID, b"Content_Length: 3\r\n"),
    "a NUL in a header": post("/v1/check", PEEK, b"X-A: b\x00c\r\n"),
    "bytes above ASCII": post("/v1/check", PEEK, ID, "X-A: é\r\n".encode()),
    "no Host": CHECK.replace(b"Host: limiter.test\r\n", b""),
    "two Hosts": post("/v1/check", PEEK, b"Host: other\r\n"),
    "an empty Host": CHECK.replace(b"Host: limiter.test", b"Host:"),
    **{
        f"Host: {host}": post("/v1/check", PEEK, ID).replace(b"limiter.test", host.encode())
        for host in (
            ".a",
            "a..b",
            "a.",
            "-a-",
            "xn--a",
            "a:0",
            "a:65535",
            "a:65536",
            "a:08",
            "a:b",
            "[::1]:80",
            "a b",
            "a/b",
        )
    },
    "no type": request("POST /v1/check", LENGTH, ID, body=PEEK),
    "another type": request("POST /v1/check", b"Content-Type: text/plain\r\n", LENGTH, ID, body=PEEK),
    "two types": post("/v1/check", PEEK, b"Content-Type: text/plain\r\n"),
    "a type with a charset": request(
        "POST /v1/check", b"Content-Type: application/json; charset=utf-8\r\n", LENGTH, ID, body=PEEK
    ),
    "forwarded": post("/v1/check", PEEK, ID, b"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n"),
    "forwarded in contradiction": post("/v1/check", PEEK, b"X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\n"),
    "a rewritten path": post("/v1/check", PEEK, ID, b"Script-Name: /x\r\nPath-Info: /y\r\n"),
    **{
        f"a head of {size} bytes": post("/v1/check", PEEK, ID, b"X-A: %b\r\n" % (b"b" * (size - len(HEAD) - 7)))
        for size in (4095, 4096, 4097)
    },
    "too long a header": post("/v1/check", PEEK, ID, b"X-A: " + b"b" * 9000 + b"\r\n"),
    "50 headers": post("/v1/check", PEEK, *[b"X-%d: a\r\n" % number for number in range(47)]),
    "51 headers": post("/v1/check", PEEK, *[b"X-%d: a\r\n" % number for number in range(48)]),
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "half a head": CHECK[:40],
    "nothing": b"",
}


@pytest.mark.parametrize("sent", CORPUS.values(), ids=CORPUS.keys())
def test_both_doors_give_the_same_answers(doors: Doors, sent: bytes) -> None:
    assert answers(spoken(doors.fast.port, sent)) == answers(spoken(doors.stock.port, sent))


def test_nobody_is_a_trusted_proxy_unless_it_is_said_who(doors: Doors) -> None:
    """Of a trusted one, gunicorn reads these headers and refuses them."""
    for node in doors:
        [(status, *_)] = answers(spoken(node.port, CORPUS["forwarded in contradiction"]))
        assert status == "200"


def test_wherever_a_request_is_split_the_answer_is_the_same(doors: Doors) -> None:
    expected = answers(spoken(doors.stock.port, CHECK))
    for split in range(1, len(CHECK)):
        assert answers(spoken(doors.fast.port, CHECK[:split], CHECK[split:])) == expected


PIECES = st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b".",
        b"-",
        b"_",
        b"\r",
        b" ",
        b"\t",
        b":",
        b"0",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
    ]
) | st.binary(min_size=1, max_size=3)


@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, len(HEAD)), removed=st.integers(0, 3), inserted=st.just(b"") | PIECES)
@example(at=HEAD.index(b"Content-Length"), removed=0, inserted=b"Content-Length: 5\r\n")
def test_no_change_of_a_head_makes_the_doors_differ(doors: Doors, at: int, removed: int, inserted: bytes) -> None:
    sent = HEAD[:at] + inserted + HEAD[at + removed :] + PEEK + CHECK
    assert answers(spoken(doors.fast.port, sent)) == answers(spoken(doors.stock.port, sent))
