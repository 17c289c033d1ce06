"""The fake limiter: real clients, whose service is the test's."""

import asyncio
import unittest
from concurrent.futures import ThreadPoolExecutor

from support import PATIENT, URL, new_client_id
from test_middleware import Answer, application

from ratelimiter_client import LeasedLimiter, RateLimited, RateLimiter, RateLimiterError, RateLimitMiddleware
from ratelimiter_client.testing import AsyncFakeLimiter, Call, FakeLimiter


class TestDecisions(unittest.TestCase):
    def test_five_in_sixty_seconds(self):
        fake = FakeLimiter({"login": (5, 60)})
        self.assertEqual([fake.check("ann", "login").allowed for _ in range(6)], [True] * 5 + [False])
        fake.advance(59.999)
        denied = fake.check("ann", "login")
        self.assertEqual((denied.allowed, denied.retry_after_ms, denied.reason), (False, 1, "over_limit"))
        fake.advance(0.001)
        self.assertEqual(fake.check("ann", "login").remaining, 4)
        self.assertEqual(fake.check("bob", "login").remaining, 4)

    def test_it_answers_as_the_service(self):
        """The same questions, to the service by a rule of the same figures."""
        fake = FakeLimiter({"global": (5, 3600)}, default=(5, 3600))
        client_id = new_client_id(5)
        with RateLimiter(URL, timeout=PATIENT) as client:
            for cost, request_id in (
                (1, "a"),
                (1, "a"),
                (0, None),
                (2, None),
                (9, None),
                (3, None),
                (2, None),
                (1, None),
            ):
                theirs, ours = (one.check(client_id, cost=cost, request_id=request_id) for one in (client, fake))
                self.assertEqual(ours[:2] + ours[3:5] + ours[6:7], theirs[:2] + theirs[3:5] + theirs[6:7])
                self.assertEqual((ours.reason, ours.degraded, ours.error), (theirs.reason, False, None))
                self.assertEqual([name for name, _ in ours.headers], [name for name, _ in theirs.headers])
                self.assertEqual(ours.retry_after_ms is None, theirs.retry_after_ms is None)
                self.assertLess(abs((ours.retry_after_ms or 0) - (theirs.retry_after_ms or 0)), 60_000)

    def test_other_keys_have_the_default(self):
        self.assertEqual(FakeLimiter().check("ann", "login", 40).remaining, 60)
        self.assertEqual(FakeLimiter(default=(3, 60)).check("ann").remaining, 2)
        strict = FakeLimiter({"login": (5, 60)}, default=None)
        with self.assertRaisesRegex(LookupError, "logn.*no limit here.*login"):
            strict.check("ann", "logn")

    def test_threads_share_it(self):
        fake = FakeLimiter(default=(100, 60))
        with ThreadPoolExecutor(8) as threads:
            allowed = list(threads.map(lambda _: fake.check("ann").allowed, range(200)))
        self.assertEqual(sum(allowed), 100)

    def test_a_clock_of_ones_own(self):
        now = [1000.0]
        fake = FakeLimiter({"login": (1, 60)}, clock=lambda: now[0])
        self.assertEqual([fake.check("ann", "login").allowed for _ in range(2)], [True, False])
        now[0] += 60
        self.assertTrue(fake.check("ann", "login").allowed)

    def test_many_and_leases(self):
        fake = FakeLimiter({"export": (5, 60)})
        asked = [("ann", "export", 2), ("ann", "export", 9), {"client_id": "ann", "limit_key": "export"}]
        self.assertEqual([decision.remaining for decision in fake.check_many(asked)], [3, 3, 2])
        lease = fake.lease("ann", "export", 9, 1)
        self.assertEqual((lease.granted, fake.lease("ann", "export", 1, 1).granted), (2, 0))
        self.assertEqual(fake.return_lease(lease.lease_id, 1), 1)
        with self.assertRaises(RateLimiterError):
            fake.return_lease(lease.lease_id, 1)
        with LeasedLimiter(fake) as leased:
            self.assertEqual([leased.check("ann", "export").allowed for _ in range(2)], [True, False])


class TestStates(unittest.TestCase):
    def test_down_is_the_fail_mode_until_it_recovers(self):
        for fail_mode, allowed in (("open", True), ("closed", False)):
            fake = FakeLimiter({"login": (1, 60)}, fail_mode=fail_mode)
            fake.down()
            for _ in range(9):
                decision = fake.check("ann", "login")
                self.assertEqual((decision.allowed, decision.degraded, bool(decision.error)), (allowed, True, True))
            fake.recover()
            self.assertIsNone(fake.check("ann", "login").error)
        strict = FakeLimiter(fail_mode="raise")
        strict.down(status=503)
        with self.assertRaisesRegex(RateLimiterError, "503"):
            strict.check("ann")

    def test_degraded_is_the_services_own_fail_mode(self):
        fake = FakeLimiter({"login": (1, 60)}, fail_mode="closed")
        fake.degrade()
        decisions = [fake.check("ann", "login") for _ in range(3)]
        self.assertEqual(
            {(one.allowed, one.degraded, one.reason, one.error) for one in decisions}, {(True, True, "degraded", None)}
        )
        fake.recover()
        self.assertEqual([fake.check("ann", "login").allowed for _ in range(2)], [True, False])

    def test_slow_is_late_from_the_timeout_on(self):
        fake = FakeLimiter({"login": (3, 60)}, timeout=0.5)
        start = fake.now
        fake.slow(0.4)
        self.assertIsNone(fake.check("ann", "login").error)
        fake.slow(0.5)
        self.assertIn("time", fake.check("ann", "login").error)
        self.assertAlmostEqual(fake.now - start, 0.9, places=3)
        fake.recover()
        self.assertEqual(fake.peek("ann", "login").remaining, 1)  # what came late was charged

    def test_deny_and_reset(self):
        fake = FakeLimiter({"login": (3, 60)})
        fake.deny("login", retry_after_ms=2500)
        self.assertEqual(fake.check("ann", "login")[:3], (False, 3, 2500))
        fake.deny("login", retry_after_ms=None)
        self.assertIsNone(fake.check("ann", "login").retry_after_ms)
        self.assertTrue(fake.check("ann", "search").allowed)
        fake.reset()
        self.assertEqual(fake.calls, [])
        self.assertEqual(fake.check("ann", "login").remaining, 2)

    def test_calls_are_recorded(self):
        fake = FakeLimiter({"login": (2, 60)})
        fake.check("ann", "login", 2)
        fake.peek(7, "login")
        fake.check("ann", "login")
        self.assertEqual(
            fake.calls, [Call("ann", "login", 2, True), Call("7", "login", 0, True), Call("ann", "login", 1, False)]
        )

    def test_a_wait_takes_no_time(self):
        fake = FakeLimiter({"login": (1, 3600)})
        start = fake.now
        self.assertEqual([fake.wait("ann", "login", at_most=7200).allowed for _ in range(2)], [True, True])
        self.assertEqual(fake.now - start, 3600)
        self.assertFalse(fake.wait("ann", "login", at_most=60).allowed)
        other = AsyncFakeLimiter({"login": (1, 3600)})

        async def wait():
            return [(await other.wait("ann", "login", at_most=7200)).allowed for _ in range(2)]

        self.assertEqual(asyncio.run(wait()), [True, True])

    def test_limits_that_are_none_are_refused(self):
        for limits in ({"login": 5}, {"login": (5,)}, {"login": (-1, 60)}, {"login": (5, 0)}, {"login": ("5", 60)}):
            with self.assertRaisesRegex(ValueError, r"'login' is .*allowed is \(units, seconds\)"):
                FakeLimiter(limits)


class TestPlaces(unittest.TestCase):
    def test_in_a_middleware(self):
        fake = FakeLimiter({"global": (2, 60)})
        app = RateLimitMiddleware(application, fake)
        answers = [Answer(app) for _ in range(3)]
        self.assertEqual([answer.status for answer in answers], [200, 200, 429])
        self.assertEqual(dict(answers[2].headers)["Retry-After"], "60")

    def test_in_a_decorator(self):
        fake = FakeLimiter({"export": (1, 60)})

        @fake.limit("export", identify="ann")
        def export():
            return "done"

        self.assertEqual(export(), "done")
        with self.assertRaises(RateLimited):
            export()

    def test_for_asyncio(self):
        fake = AsyncFakeLimiter({"login": (2, 60)})

        async def ask():
            async with fake:
                return [(await fake.check("ann", "login")).allowed for _ in range(3)]

        self.assertEqual(asyncio.run(ask()), [True, True, False])
        fake.down()
        self.assertTrue(asyncio.run(fake.check("ann", "login")).error)


if __name__ == "__main__":
    unittest.main()
