"""Several limits of a request: each counter is charged once."""

import unittest

from support import PATIENT, URL, new_client_id
from test_middleware import Answer, application

from ratelimiter_client import LeasedLimiter, RateLimiter, RateLimitMiddleware
from ratelimiter_client.web.gate import Gate, Limit


class TestCharges(unittest.TestCase):
    def setUp(self):
        self.client = RateLimiter(URL, timeout=PATIENT)
        self.addCleanup(self.client.close)
        self.client_id = new_client_id(10)

    def used(self, client_id=None):
        return 10 - self.client.peek(client_id or self.client_id).remaining

    def decided(self, *limits, **settings):
        return Gate(self.client, self.client_id, **settings).decide({"REMOTE_ADDR": "127.0.0.1"}, limits)

    def test_two_that_meet_one_counter_charge_it_once(self):
        """F7, U1-2."""
        app = RateLimitMiddleware(application, self.client, limits=[(self.client_id, key) for key in ("x", "y", "z")])
        answers = [Answer(app) for _ in range(11)]
        self.assertEqual([answer.status for answer in answers], [200] * 10 + [429])
        self.assertIn("r=9", answers[0].headers["RateLimit"])

    def test_one_middleware_within_another_too(self):
        app = application
        for key in ("x", "y"):
            app = RateLimitMiddleware(app, self.client, self.client_id, key)
        self.assertEqual([Answer(app).status for _ in range(3)], [200] * 3)
        self.assertEqual(self.used(), 3)

    def test_by_the_greatest_cost(self):
        self.assertTrue(self.decided(Limit(None, "x", 2), Limit(None, "y", 5), Limit(None, "z", 4)).allowed)
        self.assertEqual(self.used(), 5)
        denied = self.decided(Limit(None, "x", 5), Limit(None, "y", 6))
        self.assertEqual((denied.allowed, denied.limit_key, self.used()), (False, "y", 5))

    def test_other_counters_are_others(self):
        other = new_client_id(10)
        self.assertTrue(self.decided(Limit(None, "x"), Limit(other, "x"), Limit(other, "y", 3)).allowed)
        self.assertEqual((self.used(), self.used(other)), (1, 3))
        named = new_client_id("login")  # /login has a rule of its own
        for cost in (1, 2):
            self.decided(Limit(named, "x", cost), Limit(named, "/login", 1))
        self.assertEqual(self.client.peek(named, "/login").remaining, 0)

    def test_a_denial_leaves_all_uncharged(self):
        other = new_client_id(1)
        limits = [Limit(other, "a"), Limit(None, "b"), Limit(other, "c", 2), Limit(new_client_id(1), "d")]
        decision = self.decided(*limits)
        self.assertEqual((decision.allowed, decision.client_id, decision.limit_key), (False, other, "c"))
        self.assertEqual((self.used(), self.client.peek(other).remaining), (0, 1))

    def test_the_first_denial_ends_what_is_asked_in_turn(self):
        other, client = new_client_id(1), LeasedLimiter(self.client)
        self.addCleanup(client.close)
        limits = [Limit(other, "a"), Limit(None, "b"), Limit(other, "c", 2), Limit(new_client_id(1), "d")]
        decision = Gate(client, self.client_id).decide({"REMOTE_ADDR": "127.0.0.1"}, limits)
        self.assertEqual((decision.allowed, decision.client_id, decision.limit_key), (False, other, "c"))
        self.assertEqual(self.used(), 1)

    def test_a_cost_of_a_stranger_escapes_in_no_place(self):
        for cost in (-1, -5, 10**9 + 1, 10**18):
            self.assertFalse(self.decided(Limit(None, "x", 1), Limit(None, "y", cost)).allowed, cost)
        self.assertTrue(self.decided(Limit(None, "x", 1), Limit(None, "y", 0)).allowed)

    def test_what_is_not_decided_is_not_taken_for_charged(self):
        with RateLimiter("http://127.0.0.1:1", timeout=PATIENT, fail_mode="closed") as gone:
            self.assertIsNotNone(Gate(gone, "a").decide({}, [Limit("a", "x"), Limit("a", "y")]).error)
        environ = {}
        with RateLimiter("http://127.0.0.1:1", timeout=PATIENT) as gone:
            Gate(gone, self.client_id).decide(environ)
        Gate(self.client, self.client_id).decide(environ)
        self.assertEqual(self.used(), 1)


class TestHolds(unittest.TestCase):
    """`deduct_when`: what counts is known with the answer."""

    def setUp(self):
        self.client = RateLimiter(URL, timeout=PATIENT)
        self.addCleanup(self.client.close)
        self.client_id = new_client_id(5)

    def run_one(self, answer, *limits):
        environ = {}
        gate = Gate(self.client, self.client_id)
        decision = gate.decide(environ, limits or [Limit(None, "login", 1, lambda answer: answer == "failed")])
        environ["ratelimiter.charges"].settle(answer)
        return decision.allowed

    def left(self):
        return self.client.peek(self.client_id).remaining

    def test_only_what_counts_is_charged_and_while_it_is_open_it_is_held(self):
        self.assertEqual([self.run_one("ok") for _ in range(9)], [True] * 9)
        self.assertEqual(self.left(), 5)
        self.assertEqual([self.run_one("failed") for _ in range(6)], [True] * 5 + [False])
        self.assertFalse(self.run_one("ok"))
        self.assertEqual(self.left(), 0)

    def test_of_a_leased_limiter_too(self):
        self.client = LeasedLimiter(self.client)
        self.assertTrue(self.run_one("ok") and self.run_one("failed"))
        self.assertEqual(self.left(), 4)

    def test_a_cost_that_is_more_than_what_is_left_is_denied_and_costs_nothing(self):
        self.assertFalse(self.run_one("failed", Limit(None, "a", 6, bool)))
        self.assertEqual(self.left(), 5)
        self.assertTrue(self.run_one("failed", Limit(None, "a", 5, bool)))
        self.assertEqual(self.left(), 0)

    def test_a_limit_that_counts_anyway_keeps_the_charge(self):
        self.assertTrue(self.run_one("ok", Limit(None, "a", 1, lambda _: False), Limit(None, "b", 1)))
        self.assertEqual(self.left(), 4)

    def test_two_that_are_held_count_if_either_does(self):
        limits = [Limit(None, key, 1, lambda answer, key=key: answer == key) for key in "ab"]
        for answer, left in (("none", 5), ("a", 4), ("b", 3)):
            self.assertTrue(self.run_one(answer, *limits))
            self.assertEqual(self.left(), left)

    def test_costs_out_of_range_and_nothing(self):
        self.assertFalse(self.run_one("ok", Limit(None, "a", -1, bool)))
        self.assertFalse(self.run_one("ok", Limit(None, "a", 10**10, bool)))
        self.assertTrue(self.run_one("ok", Limit(None, "a", 0, bool)))

    def test_without_the_service_the_fail_mode_answers(self):
        with RateLimiter("http://127.0.0.1:1", timeout=PATIENT) as gone:
            self.assertTrue(Gate(gone, "a").decide({}, [Limit(None, "a", 1, bool)]).degraded)


if __name__ == "__main__":
    unittest.main()
