"""Whatever JSON the service, or what stands in for it, answers: a decision with figures that make sense, or none."""

import random
import unittest

from support import PATIENT, Broken, http
from test_failures import OK
from test_middleware import Answer, application

from ratelimiter_client import RateLimiter, RateLimiterError, RateLimitMiddleware

DENIED = {
    "allowed": "false", "remaining": "0", "retry_after_ms": "2500", "limit": "9", "window": "60", "reset_at": "1.5",
    "algorithm": '"gcra"', "rule_id": "1", "reason": '"over_limit"', "degraded": "false",
}  # fmt: skip
GRANTED = {**DENIED, "allowed": "true", "granted": "5", "lease_id": '"a"', "expires_at": "2.5"}
MOST = 2**53
GARBAGE = (
    "null", "true", "false", "0", "1", "-1", "1.0", "-0.5", str(MOST), str(MOST + 1), "1" + "0" * 400, "-1" + "0" * 400,
    "1e308", "1e400", "NaN", "Infinity", "-Infinity", '""', '"1"', r'"\ud800"', r'"a\r\nX-Evil: 1\u0000"', "[]", "[1]",
    "{}", '{"status":true,"detail":[{}]}', "[" * 40 + "]" * 40,
)  # fmt: skip
MIXED = 500


def written(fields):
    return "{" + ",".join(f'"{name}":{text}' for name, text in fields.items()) + "}"


def results(*items):
    return written({"results": "[" + ",".join(items) + "]"})


def spoiled(fields):
    """Answers of which one member is garbage or missing, then such of which several are, ever the same."""
    for name in fields:
        yield written({other: text for other, text in fields.items() if other != name})
        for text in GARBAGE:
            yield written({**fields, name: text})
    chance = random.Random(7)
    for _ in range(MIXED):
        yield written({**fields, **{name: chance.choice(GARBAGE) for name in chance.choices(list(fields), k=3)}})


def is_count(value):
    return type(value) is int and 0 <= value <= MOST


def is_time(value):
    return type(value) in (int, float) and 0 <= value <= MOST


class TestGarbage(unittest.TestCase):
    def setUp(self):
        self.server = Broken()
        self.server.__enter__()
        self.addCleanup(self.server.__exit__)
        self.client = RateLimiter(self.server.url, timeout=PATIENT, fail_mode="closed")
        self.addCleanup(self.client.close)

    def answer(self, body):
        self.client._service.process.breaker.succeeded()  # or it would ask no more
        self.server.beginning = http(OK, body.encode())

    def assert_sane(self, decision):
        if decision.error is not None:
            self.assertEqual(decision[:9], (False, 0, decision.retry_after_ms, 0, 0, 0.0, None, "", "degraded"))
        self.assertEqual((type(decision.allowed), type(decision.degraded)), (bool, bool))
        self.assertTrue(is_count(decision.remaining) and is_count(decision.limit) and is_count(decision.window))
        self.assertTrue(decision.retry_after_ms is None or is_count(decision.retry_after_ms))
        self.assertTrue(is_time(decision.reset_at))
        self.assertEqual((type(decision.algorithm) in (str, type(None)), type(decision.reason)), (True, str))
        self.assertIn(type(decision.rule_id), (int, str))

    def each(self, test, bodies):
        """`test()` with each as the answer; how many of them were understood."""
        understood = 0
        for body in bodies:
            with self.subTest(body):
                self.answer(body)
                understood += bool(test())
        return understood

    def test_of_a_check(self):
        def test():
            decision = self.client.check("a")
            self.assert_sane(decision)
            return decision.error is None

        self.assertGreater(self.each(test, spoiled(DENIED)), 30)

    def test_of_many(self):
        def test():
            decisions = self.client.check_many([("a",), ("b",)])
            for decision in decisions:
                self.assert_sane(decision)
            return decisions[0].error is None

        good = written(DENIED)
        bodies = [results(*pair) for body in spoiled(DENIED) for pair in ((body, good), (good, body))]
        bodies += [results(good, written({"error": written({"status": one, "detail": one})})) for one in GARBAGE]
        bodies += [written({"results": one}) for one in GARBAGE]
        self.assertGreater(self.each(test, bodies), 30)

    def test_of_a_lease(self):
        def test():
            try:
                lease = self.client.lease("a", "b", 5, 1)
            except RateLimiterError:
                return False
            self.assert_sane(lease.decision)
            if lease.granted == 0:
                self.assertEqual(lease[:3], (None, 0, None))
            else:
                self.assertTrue(is_count(lease.granted) and type(lease.lease_id) is str and is_time(lease.expires_at))
            return True

        refused = {**GRANTED, "allowed": "false", "granted": "0"}
        self.assertGreater(self.each(test, [*spoiled(GRANTED), *spoiled(refused)]), 60)

    def test_of_a_return(self):
        def test():
            try:
                self.assertTrue(is_count(self.client.return_lease("a", 1)))
            except RateLimiterError:
                return False
            return True

        self.assertEqual(self.each(test, [written({"returned": one}) for one in GARBAGE]), 3)

    def test_of_a_request(self):
        app = RateLimitMiddleware(application, self.client)

        def test():
            status = Answer(app).status
            self.assertIn(status, (200, 429, 503))
            return status == 429

        self.assertGreater(self.each(test, spoiled(DENIED)), 30)


if __name__ == "__main__":
    unittest.main()
