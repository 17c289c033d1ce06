"""Costs and names that cannot be sent: denied, or the program's error, and never the fail mode."""

import random
import sys
import unittest
from enum import Enum, IntEnum
from unittest.mock import ANY
from uuid import UUID, uuid4

from support import PATIENT, URL, Broken, http, new_client_id
from test_middleware import Answer, application

from ratelimiter_client import Check, LeasedLimiter, RateLimiter, RateLimitMiddleware

FUZZED = 3_000
TOO_MANY = (10**9 + 1, 2_000_000_000, 10**18, 10**5000)
NEGATIVE = (-1, -(10**9), -(10**5000))
NO_INTEGERS = (1.0, 0.5, "1", b"1", None, True, float("nan"), float("inf"), [1], 1j)
NO_NAMES = (None, b"a", True, 1.0, ["a"], {}, object())
KIND = IntEnum("Kind", {"seven": 7})
WORD = Enum("Word", {"login": "login"}, type=str)


class TestCosts(unittest.TestCase):
    def setUp(self):
        """Nobody listens: what is asked is admitted, by the fail mode."""
        self.client = RateLimiter("http://127.0.0.1:1", timeout=PATIENT)
        self.addCleanup(self.client.close)
        self.assertTrue(self.client.check("a").allowed)

    def each(self):
        yield self.client.check
        yield LeasedLimiter(self.client).check
        yield lambda client_id, key, cost: self.client.check_many([(client_id, key, cost)])[0]
        yield lambda client_id, key, cost: self.client.check_many([{"client_id": client_id, "cost": cost}])[0]
        yield lambda client_id, key, cost: self.client.check_many([Check(client_id, key, cost)])[0]

    def test_a_cost_out_of_range_is_denied(self):
        calls = [*self.each(), lambda client_id, key, cost: self.client.lease(client_id, key, cost, 1).decision]
        for call in calls:
            for costs, reason in ((TOO_MANY, "cost_exceeds_limit"), (NEGATIVE, ANY)):
                for cost in costs:
                    decision = call("a", "export", cost)
                    self.assertEqual((decision.allowed, decision.error, decision.reason), (False, None, reason))
                    self.assertIsNone(decision.retry_after_ms)
        self.assertEqual(self.client.lease("a", "b", 0, 1)[:3], (None, 0, None))

    def test_what_is_no_integer_is_the_programs_error(self):
        calls = [*self.each(), lambda client_id, key, cost: self.client.lease(client_id, key, cost, 1)]
        calls.append(lambda client_id, key, cost: self.client.return_lease("a", cost))
        for call in calls:
            for cost in NO_INTEGERS:
                with self.assertRaises(TypeError, msg=cost) as refused:
                    call("a", "export", cost)
                self.assertRegex(str(refused.exception), "^(cost|permits|unused) is ")

    def test_so_are_names_of_other_types(self):
        for name in NO_NAMES:
            for call in self.each():
                with self.assertRaisesRegex(TypeError, "^client_id is .*, allowed is ", msg=name):
                    call(name, "export", 1)
            for call in (
                lambda name: self.client.check("a", name),
                lambda name: self.client.check_many([("a", name)]),
                lambda name: self.client.lease("a", name, 1, 1),
                lambda name: self.client.peek("a", name),
                lambda name: LeasedLimiter(self.client).check("a", name),
            ):
                with self.assertRaisesRegex(TypeError, "^limit_key is .*, allowed is ", msg=name):
                    call(name)
        for name in NO_NAMES[1:]:
            with self.assertRaisesRegex(TypeError, "^request_id is "):
                self.client.check("a", request_id=name)
        for item in ({"client": "a"}, (), ("a", "b", 1, "c", 5)):
            with self.assertRaises(TypeError, msg=item):
                self.client.check_many([item])

    def test_of_leases(self):
        for ttl in (None, "1", [], 1j, True):
            with self.assertRaisesRegex(TypeError, "^ttl is ", msg=ttl):
                self.client.lease("a", "b", 1, ttl)
        for ttl in (float("inf"), float("-inf"), float("nan"), 1e308, 10**400, 0, -1, 3601):
            with self.assertRaisesRegex(ValueError, "^ttl is ", msg=ttl):
                self.client.lease("a", "b", 1, ttl)
        for lease_id in (None, 5, b"a", []):
            with self.assertRaisesRegex(TypeError, "^lease_id is ", msg=lease_id):
                self.client.return_lease(lease_id, 1)
        for lease_id in ("\ud800", "", "a\nb"):
            with self.assertRaisesRegex(ValueError, "^lease_id has ", msg=lease_id):
                self.client.return_lease(lease_id, 1)
        with self.assertRaisesRegex(ValueError, "^unused is -1"):
            self.client.return_lease("a", -1)

    def test_of_requests(self):
        """U1-1: `cost=lambda environ: int(months)`."""
        app = RateLimitMiddleware(application, self.client, cost=lambda environ: environ["test.cost"])
        self.assertEqual(Answer(app, **{"test.cost": 1}).status, 200)  # the fail mode
        for cost in (*TOO_MANY[:3], *NEGATIVE[:2]):  # wsgiref.validate cannot show the others
            answer = Answer(app, **{"test.cost": cost})
            self.assertEqual((answer.status, b"waiting does not help" in answer.body), (429, True))
        for cost in NO_INTEGERS:
            with self.assertRaisesRegex(TypeError, "^cost is "):
                Answer(app, **{"test.cost": cost})
        app = RateLimitMiddleware(application, self.client, identify=lambda environ: environ["test.name"])
        for name in NO_NAMES[1:]:  # None is the address
            with self.assertRaisesRegex(TypeError, "^client_id is "):
                Answer(app, **{"test.name": name})

    def test_of_calls(self):
        limited = self.client.limit("export", identify="a", cost=lambda months: months, on_denied=lambda _: "denied")
        export = limited(lambda months: "done")
        self.assertEqual([export(cost) for cost in (1, *TOO_MANY, *NEGATIVE)], ["done"] + ["denied"] * 7)
        for cost in NO_INTEGERS:
            with self.assertRaises(TypeError):
                export(cost)


class TestNames(unittest.TestCase):
    def setUp(self):
        self.client = RateLimiter(URL, timeout=PATIENT)
        self.addCleanup(self.client.close)

    def sent(self, **question):
        with Broken(http("404 Not Found", b"{}")) as server, RateLimiter(server.url, timeout=PATIENT) as client:
            client.check(**question)
            return server.heard[0].decode()

    def test_each_is_sent_by_its_text(self):
        of = "12345678-1234-5678-1234-567812345678"
        for name, text in ((7, "7"), (-7, "-7"), (KIND.seven, "7"), (WORD.login, "login"), (UUID(of), of)):
            heard = self.sent(client_id=name, limit_key=name)
            self.assertIn(f'{{"client_id":"{text}","limit_key":"{text}",', heard)
        self.assertIn(f'"request_id":"{of}"', self.sent(client_id="a", request_id=UUID(of)))

    def test_an_id_of_a_request_is_always_one_the_service_takes(self):
        for chosen in ("a b", "é", "x" * 65, "\ud800", "\n"):
            self.assertRegex(self.sent(client_id="a", request_id=chosen), '"request_id":"[0-9a-f]{64}"')
        self.assertRegex(self.sent(client_id="a", request_id=""), '"request_id":"[0-9a-f]{24}-0"')

    def test_a_uuid_is_limited(self):
        """F6. By the middleware too."""
        client_id = uuid4()
        self.assertTrue(self.client.check(client_id, cost=100).allowed)
        self.assertEqual(self.client.check(client_id, cost=90).reason, "over_limit")
        self.assertEqual(self.client.check(str(client_id), cost=90).reason, "over_limit")
        app = RateLimitMiddleware(application, self.client, identify=lambda environ: client_id, cost=90)
        self.assertEqual(Answer(app).status, 429)

    def test_of_zero_and_nothing(self):
        """0 is somebody; who gives nothing is counted by address."""
        for name, counted in ((0, "0"), ("", "ip:"), (None, "ip:")):
            app = RateLimitMiddleware(application, self.client, identify=lambda environ, name=name: name)
            decision = Answer(app).environ["ratelimiter.decision"]
            self.assertTrue(decision.client_id.startswith(counted), name)

    def test_no_text_escapes(self):
        """Fuzzed: the service decides about each, as about any other."""
        chance = random.Random(FUZZED)
        alphabet = [
            chr(code) for code in (*range(300), 0x2028, 0xD800, 0xDFFF, 0xFFFE, 0xFFFF, 0x1F600, sys.maxunicode)
        ]
        start = new_client_id(1)
        names = {start + "".join(chance.choices(alphabet, k=chance.choice((0, 1, 5, 200, 300)))) for _ in range(FUZZED)}
        first, second = (self.client.check_many([(name, name[-140:]) for name in sorted(names)]) for _ in range(2))
        self.assertEqual({decision.error for decision in (*first, *second)}, {None})
        self.assertEqual({decision.allowed for decision in first}, {True})
        long = [decision for decision in second if decision.allowed]
        self.assertTrue(all(98 <= decision.remaining < 100 for decision in long))  # named by digests: the default's 100


if __name__ == "__main__":
    unittest.main()
