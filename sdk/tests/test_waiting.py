"""Waiting until a check is admitted, by a clock of the test's."""

import unittest

from support import PATIENT, URL, new_client_id

from ratelimiter_client import LeasedLimiter, RateLimiter
from ratelimiter_client.waiting import admitted


class TestWaiting(unittest.TestCase):
    """M7."""

    def setUp(self):
        self.client = RateLimiter(URL, timeout=PATIENT)
        self.addCleanup(self.client.close)
        self.now = 100.0
        self.slept = []

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds

    def waited(self, waits, at_most):
        """Of decisions that wait so many milliseconds; 0: admitted."""
        given = self.client.peek("a")
        decisions = [given._replace(allowed=wait == 0, retry_after_ms=wait) for wait in waits]
        found = admitted(lambda: decisions.pop(0), at_most, clock=lambda: self.now, sleep=self.sleep)
        return found.allowed, self.slept

    def test_it_sleeps_as_long_as_it_is_told(self):
        self.assertEqual(self.waited([1500, 250, 0], 5), (True, [1.5, 0.25]))

    def test_nobody_waits_in_vain(self):
        self.assertEqual(self.waited([1500, 3501], 5), (False, [1.5]))
        self.slept.clear()
        self.assertEqual(self.waited([None], 5), (False, []))
        self.assertEqual(self.waited([1], 0), (False, []))

    def test_of_the_service(self):
        client_id = new_client_id(1)
        for limiter in (self.client, LeasedLimiter(self.client)):
            self.assertTrue(limiter.wait(client_id + "a" * (limiter is self.client), at_most=5).allowed)
        self.assertFalse(self.client.wait(client_id, at_most=5).allowed)  # an hour
        self.assertFalse(self.client.wait(client_id, cost=10**10, at_most=5).allowed)

    def test_arguments(self):
        for at_most, error in ((None, TypeError), ("1", TypeError), (-1, ValueError), (float("nan"), ValueError)):
            with self.assertRaisesRegex(error, "^at_most is "):
                self.client.wait("a", at_most=at_most)


if __name__ == "__main__":
    unittest.main()
