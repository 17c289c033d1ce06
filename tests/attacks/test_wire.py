"""Requests that two readers could read in two ways, and malformed ones that carry secrets (rows 16 and 17)."""

from __future__ import annotations

import contextlib
import random
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.api.raw_http import HOST, JSON, statuses
from tests.server.doors import spoken
from tests.support.burst import Burst
from tests.support.matrix import ATTACKS, Figures
from tests.support.node import Node
from tests.support.traefik import Traefik

SEED = 20261130
MUTATIONS = 8_000 if ATTACKS.whole else 300
LIMIT = 10_000
HIDDEN = b'{"client_id":"smuggled"}'
# Answered, it would be a second answer to one request, and a unit charged.
SMUGGLED = b"POST /v1/check HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN
CHUNK = b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)

# Fields that leave it open where the body ends, each before a body that is a request.
LENGTHS = [
    *(b"Content-Length: " + value for value in (b"+0", b"-0", b"0x0", b"0, %d", b"%d, 0", b"00%d", b"%d.0", b"0;%d")),
    *(b"Content-Length: " + value for value in (b"\x0b%d", b"%d ", b" 0 %d", b"1e3", b"0_0", b"\xb2%d", b"0\x00", b"")),
    b"Content-Length: 0\r\nContent-Length: %d",
    b"Content-Length: %d\r\nContent-Length: 0",
    b"Content-Length: %d\r\nContent-Length: %d",
    b"Content-Length : %d",
    b"Content-Length\t: %d",
    b" Content-Length: %d",
    b"Content-Length:\r\n %d",
    b"Content_Length: %d",
    b"Content-Length: 0\r\nX: x\rContent-Length: %d",
    b"Content-Length: 0\nContent-Length: %d",
]
CODINGS = [
    *(
        b"Transfer-Encoding: " + value
        for value in (
            b"identity",
            b"x",
            b"gzip, chunked",
            b"chunked, identity",
            b"xchunked",
            b"chunked\x00",
            b'"chunked"',
        )
    ),
    *(
        b"Transfer-Encoding" + rest
        for rest in (b": chunked", b":chunked", b":\tchunked", b": \x0bchunked", b" : chunked", b":")
    ),
    *(
        name + b": chunked"
        for name in (b"Transfer_Encoding", b"transfer-encoding", b"X\r\n Transfer-Encoding", b"\x00Transfer-Encoding")
    ),
    b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    b"Transfer-Encoding:\r\n chunked",
    b"X: x\nTransfer-Encoding: chunked",
    b"X: x\rTransfer-Encoding: chunked",
    b"Trailer: Content-Length\r\nTransfer-Encoding: chunked",
]
OTHERS = [
    b"Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
    b"Connection: Content-Length",
    b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
    b"Expect: 100-continue",
    b"Expect: 100-continue\r\nTransfer-Encoding: chunked",
]


def corpus() -> Iterator[bytes]:
    """First requests whose end is doubtful, with the hidden one where the end may be."""
    for fields in (*LENGTHS, *CODINGS, *OTHERS):
        named = fields.replace(b"%d", b"%d" % len(SMUGGLED)) + b"\r\n"
        for body in (SMUGGLED, b"0\r\n\r\n" + SMUGGLED):
            yield b"POST /v1/check HTTP/1.1\r\n" + HOST + JSON + named + b"\r\n" + body
        if fields in CODINGS:
            yield b"POST /v1/check HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 5\r\n" + named + b"\r\n" + CHUNK
        if fields not in OTHERS and b"_" not in fields:  # without a body, what follows is a request in its own right
            yield b"GET /livez HTTP/1.1\r\n" + HOST + named + b"\r\n" + SMUGGLED


@pytest.fixture
def honest(attacked: Node) -> Node:
    for client_id in ("smuggled", "honest"):
        attacked.put_rule(client_id=client_id, rate=LIMIT, window=3600, algorithm="fixed_window")
    return attacked


@pytest.mark.attack(
    16, "requests whose end is doubtful (lengths, codings, folds, upgrades), each with another hidden in it"
)
def test_nothing_is_smuggled(honest: Node, measured: Figures) -> None:
    """No hidden request is decided, and none is a 5xx."""
    before = honest.check("smuggled", cost=0)["remaining"]
    answers = [spoken(honest.port, sent) for sent in corpus()]
    measured["requests"] = len(answers)
    measured["hidden ones decided"] = before - honest.check("smuggled", cost=0)["remaining"]
    assert measured["hidden ones decided"] == 0
    assert max(status for answer in answers for status in statuses(answer)) < 500


@pytest.mark.skipif(not ATTACKS.whole, reason="make attack: Traefik waits for the rest of many requests")
@pytest.mark.attack(16, "the same through Traefik, and then checks of others over its connections to the node")
def test_nothing_is_smuggled_past_traefik(honest: Node, tmp_path: Path, measured: Figures) -> None:
    """The node decides none that Traefik did not see as a request of its own, and others get their own answers."""
    before = honest.check("smuggled", cost=0)["remaining"]
    with Traefik(tmp_path, [honest.port]) as traefik:
        with ThreadPoolExecutor(16) as callers:
            answers = list(callers.map(lambda sent: said_within_a_while(traefik.port, sent), corpus()))
        decided = before - honest.check("smuggled", cost=0)["remaining"]
        with Burst(traefik.port, 32) as others:
            left = [decision["remaining"] for _ in range(10) for decision in others.check(client_id="honest")]
    measured["requests"] = len(answers)
    measured["decided unseen by Traefik"] = decided - sum(answer.count(b'"allowed":true') for answer in answers)
    measured["checks of others"], measured["of these answered wrong"] = len(left), len(left) - len(set(left))
    assert measured["decided unseen by Traefik"] == 0
    assert sorted(left) == list(range(LIMIT - len(left), LIMIT))


def said_within_a_while(port: int, sent: bytes) -> bytes:
    """What comes back until nothing more has come for a second and a half."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=1.5) as connection, contextlib.suppress(OSError):
        connection.sendall(sent)
        while chunk := connection.recv(65536):
            received += chunk
    return received


KEY, BODY = b"s3cr3t-" * 5, b"b0dy-" * 5
CARRIER = (
    b"POST /v1/check HTTP/1.1\r\n" + HOST + JSON + b"X-API-Key: " + KEY + b"\r\nAuthorization: Bearer " + KEY
    + b"\r\nContent-Length: 96\r\n\r\n"
    + b'{"client_id":"' + BODY + b'","limit_key":"' + BODY + b'","cost": 1     }'
)  # fmt: skip
BROKEN = [
    CARRIER.replace(b"X-API-Key: ", b"X-API-Key "),
    CARRIER.replace(b"X-API-Key: ", b"X-API-Key : "),
    CARRIER.replace(b"X-API-Key: ", b"X-API\x00Key: "),
    CARRIER.replace(b"X-API-Key: ", b"X: x\r\n "),
    CARRIER.replace(b"X-API-Key: ", b""),
    CARRIER.replace(b"json\r\nX-API-Key", b"jsonX-API-Key"),
    CARRIER.replace(b"Length: 96", b"Length: 7"),
    CARRIER.replace(b"Length: 96", b"Length: " + KEY),
    CARRIER.replace(b"/v1/check HTTP", b"/v1/check?key=" + KEY + b" HTTP/9"),
    CARRIER.replace(b"POST", KEY),
    CARRIER.replace(b"Host: ", b"Host: " + KEY + b"/"),
    CARRIER.replace(b"HTTP/1.1", b"HTTP/" + KEY),
    CARRIER.replace(b"Content-Length: 96", b"Transfer-Encoding: " + KEY),
    CARRIER.replace(b"Content-Length: 96", b"Transfer-Encoding: chunked").replace(
        b"POST /v1/check", b"POST /v1/admin/import"
    ),
    KEY + b"\r\n\r\n",
    b"X" * 5000 + CARRIER,
    CARRIER.replace(b"X-API-Key: ", b"X-API-Key: " + b"y" * 9000),
]


def mutated() -> Iterator[bytes]:
    """The request with a few of its bytes gone, doubled or others, from a seed."""
    dice = random.Random(SEED)
    for _ in range(MUTATIONS):
        sent = bytearray(CARRIER)
        for _ in range(dice.choice((1, 1, 1, 2, 3))):
            at, length = dice.randrange(len(sent)), dice.choice((1, 1, 2, 8))
            sent[at : at + length] = dice.choice(
                (b"", bytes(sent[at : at + length]) * 2, dice.randbytes(length), b"\r\n", b" ", b":")
            )
        yield bytes(sent)


@pytest.mark.attack(17, f"{len(BROKEN)} malformed requests that carry a key and a body, and {MUTATIONS:,} random ones")
def test_no_log_line_and_no_refusal_tells_what_was_sent(attacked: Node, measured: Figures) -> None:
    """Neither the key nor the body stands in the log, or in an answer, and none is a 5xx."""
    told, failed, before = 0, 0, len(attacked.log.read_text())
    for sent in (*BROKEN, *mutated()):
        answer = spoken(attacked.port, sent)
        # A field that was misspelt by the change is named where it is refused.
        told += b"s3cr3t" in answer or (b"b0dy" in answer and b" 422 " not in answer[:20])
        failed += any(status >= 500 for status in statuses(answer))
    log = attacked.log.read_text()[before:]
    measured["requests"], measured["5xx"] = len(BROKEN) + MUTATIONS, failed
    measured["answers that tell"], measured["log lines that tell"] = told, len(re.findall("s3cr3t.*|b0dy.*", log))
    assert (told, failed, measured["log lines that tell"]) == (0, 0, 0)
    assert "Traceback" not in log
