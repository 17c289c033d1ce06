"""Random costs, ids, headers and answers pass no limit and raise no undocumented error.

RATELIMITER_FUZZ: how many of each, 500 if unset; RATELIMITER_SEED: another sequence than the usual one.
"""

import json
import os
import random
import re
import unittest
import uuid
from fractions import Fraction

from support import http
from test_failures import BODY, OK

from ratelimiter_client import RateLimiter, RateLimitMiddleware, identify
from ratelimiter_client.http.questions import UNPRINTABLE
from ratelimiter_client.http.transport import AnswerReader
from ratelimiter_client.testing import FakeLimiter

NUMBER = int(os.environ.get("RATELIMITER_FUZZ", "500"))
SEED = int(os.environ.get("RATELIMITER_SEED", "19"))
MOST = 10**9
ALPHABET = (
    "aZ09-._~:/*%\\\"'{}[]é\u0130\u00df\u4e2d\U0001f600\x00\x01\t\r\n\x7f\x85\u2028\u202e\ufeff\ud800\udfff ,;=\t"
)
REQUEST = re.compile(
    rb"POST /v1/check HTTP/1\.1\r\n(?:[A-Za-z-]+: [\x21-\x7e][\x20-\x7e]*\r\n)+\r\n\{[\x20-\x7e]+\}", re.DOTALL
)


class Text(str):
    """A kind of text, as frameworks have them."""


def text(chance, most=12):
    return "".join(chance.choices(ALPHABET, k=chance.choice((0, 1, 2, 3, most, 200 if chance.random() < 0.05 else 4))))


def value(chance):
    """Of any type."""
    return chance.choice(
        (
            lambda: text(chance),
            lambda: Text(text(chance)),
            lambda: chance.randint(-3, 12),
            lambda: chance.choice((-1, 1)) * chance.getrandbits(chance.choice((8, 31, 64, 256, 3000))),
            lambda: chance.choice((MOST - 1, MOST, MOST + 1, 2**53, 2**63)),
            lambda: uuid.UUID(int=chance.getrandbits(128)),
            lambda: chance.choice((None, True, False, 0.5, 1.0, -0.0, float("nan"), float("inf"), Fraction(1, 3))),
            lambda: text(chance).encode("utf-8", "surrogatepass"),
            lambda: chance.choice(([], {}, (), [1], {"a": 1}, object(), int, len)),
        )
    )()


def is_whole(given):
    return isinstance(given, int) and not isinstance(given, bool)


class TestFuzz(unittest.TestCase):
    def setUp(self):
        self.chance = random.Random(SEED)

    def test_costs(self):
        fake = FakeLimiter({"a": (7, 60)}, fail_mode="open")
        for number in range(NUMBER):
            cost = value(self.chance)
            fake.recover()
            if number % 3 == 0:
                fake.down()
            before = len(fake.calls)
            with self.subTest(cost=cost):
                try:
                    decision = fake.check(str(number), "a", cost)
                except TypeError:
                    self.assertFalse(is_whole(cost))
                    continue
                self.assertTrue(is_whole(cost))
                self.assertEqual(decision.allowed, 0 <= cost <= (MOST if number % 3 == 0 else 7))
                self.assertEqual(len(fake.calls) - before, 0 if number % 3 == 0 or not 0 <= cost <= MOST else 1)

    def test_ids(self):
        fake = FakeLimiter(default=(1, 60), fail_mode="open")
        for _ in range(NUMBER):
            client_id, limit_key = value(self.chance), value(self.chance)
            with self.subTest(client_id=client_id, limit_key=limit_key):
                named = all(isinstance(one, (str, uuid.UUID)) or is_whole(one) for one in (client_id, limit_key))
                fake.reset()
                try:
                    allowed = [fake.check(client_id, limit_key).allowed for _ in range(2)]
                except TypeError:
                    self.assertFalse(named)
                    continue
                self.assertTrue(named)
                self.assertEqual(allowed, [True, False])

    def test_groups(self):
        fake = FakeLimiter(default=(1, 60), fail_mode="open")
        for number in range(NUMBER):
            named = [value(self.chance) for _ in range(self.chance.choice((0, 1, 2, 8, 9, 12)))]
            groups = self.chance.choice((named, tuple(named), value(self.chance)))
            fine = isinstance(groups, (list, tuple)) and all(
                isinstance(one, (str, uuid.UUID)) or is_whole(one) for one in groups
            )
            with self.subTest(groups=groups):
                try:
                    decision = fake.check(str(number), groups=groups)
                except TypeError:
                    self.assertFalse(fine or groups is None)
                    continue
                self.assertTrue(fine or groups is None)
                self.assertTrue(decision.allowed or (len(groups) > 8 and decision.reason == "groups_out_of_range"))
                if decision.allowed:
                    sent = fake.calls[-1].groups
                    self.assertTrue(len(set(sent)) == len(sent) <= 8)
                    self.assertTrue(all(0 < len(one) <= 128 and not UNPRINTABLE.search(one) for one in sent))

    def test_headers(self):
        fake = FakeLimiter(default=(1, 60), fail_mode="open")
        seen = []
        answer = fake.service.answer
        fake.service.answer = lambda request, timeout: seen.append(request) or answer(request, timeout)
        names = ("X_FORWARDED_FOR", "X_USER", "COOKIE", "AUTHORIZATION", "X_API_KEY", "TRACEPARENT", "X_CORRELATION_ID")
        ways = (identify.header("X-User"), identify.cookie("s"), identify.api_key(), identify.address(["127.0.0.1"]))
        apps = [RateLimitMiddleware(served, fake, way, trusted_proxies=["127.0.0.1", "unix"]) for way in ways]
        for _ in range(NUMBER):
            environ = {"REQUEST_METHOD": "GET", "PATH_INFO": text(self.chance), "REMOTE_ADDR": "127.0.0.1"}
            for name in self.chance.sample(names, 4):
                prefix = self.chance.choice(("", "", "s=", "Bearer ", "ip:", "key:", "192.0.2.1, ", "::ffff:"))
                environ[f"HTTP_{name}"] = prefix + text(self.chance)
            if self.chance.random() < 0.1:
                del environ["REMOTE_ADDR"]
            app = self.chance.choice(apps)
            with self.subTest(environ=environ):
                fake.reset()
                seen.clear()
                started = [asked(app, dict(environ)) for _ in range(2)]
                self.assertEqual([status for status, _ in started], ["200", "429"])
                for _, headers in started:
                    for name, content in headers:
                        self.assertRegex(f"{name}: {content}", r"\A[A-Za-z-]+: [\x20-\x7e]*\Z")
                for request in seen:
                    self.assertRegex(request, REQUEST)

    def test_answers(self):
        """A spoiled answer is a decision with figures that make sense, or none; in whatever pieces it comes."""
        client = RateLimiter("http://127.0.0.1:1", fail_mode="closed")
        good = http(OK, BODY, 'RateLimit: "1.1";r=1', "Retry-After: 3")
        connections = Scripted()
        client._service.connect_by(lambda: connections)
        understood = 0
        for _ in range(NUMBER):
            connections.pieces = self.pieces(self.spoiled(good))
            client._service.process.breaker.succeeded()  # or it would ask no more
            with self.subTest(connections.pieces):
                decision = client.check("a")
                understood += decision.error is None
                self.assertEqual((type(decision.allowed), type(decision.degraded)), (bool, bool))
                self.assertTrue(0 <= decision.remaining <= 2**53 and 0 <= decision.limit <= 2**53)
                self.assertTrue(decision.allowed is False or decision.error is None)
                json.dumps([*decision[:10]], allow_nan=False)
        self.assertGreater(understood, NUMBER // 20)

    def spoiled(self, answer):
        data = bytearray(answer)
        for _ in range(self.chance.choice((0, 1, 1, 2, 5))):
            place = self.chance.randrange(len(data))
            change = self.chance.randrange(4)
            if change == 0:
                data[place] = self.chance.getrandbits(8)
            elif change == 1:
                del data[place : place + self.chance.choice((1, 2, 40))]
            elif change == 2:
                data[place:place] = self.chance.choice(
                    (b"\r\n", b"\r\n\r\n", b"0", b"-", b"9" * 30, b"{", b'"', b"\x00")
                )
            else:
                data[place:place] = data[self.chance.randrange(len(data)) :][: self.chance.choice((3, 30))]
        return bytes(data)

    def pieces(self, data):
        cuts = sorted(self.chance.choices(range(len(data) + 1), k=self.chance.choice((0, 1, 4))))
        return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)])]


class Scripted:
    """Connections on which one answer comes, then the end."""

    def exchange(self, _request, _deadline, most, **_):
        reader = AnswerReader(most)
        for piece in self.pieces:
            answer = reader.feed(piece) if piece else None
            if answer is not None:
                whole = AnswerReader(most).feed(b"".join(self.pieces))
                assert whole[:3] == answer[:3], (whole, answer)
                return answer
        raise ConnectionResetError("the end")

    def close(self):
        pass


def asked(app, environ):
    """Status and headers."""
    started = []
    list(app(environ, lambda status, headers, *_: started.extend((status[:3], headers))))
    return started


def served(_environ, start_response):
    start_response("200 OK", [])
    return [b""]


if __name__ == "__main__":
    unittest.main()
