"""The breaker, by a clock of the test's."""

import threading
import unittest

from ratelimiter_client.http.breaker import FAILURES, Breaker

TIMEOUT = 0.5


class TestBreaker(unittest.TestCase):
    def setUp(self):
        self.now = 100.0
        self.breaker = Breaker(TIMEOUT, clock=lambda: self.now)

    def fail(self, times=FAILURES):
        for _ in range(times):
            self.breaker.failed(OSError("gone"))

    def open(self):
        with self.assertLogs("ratelimiter_client", "WARNING") as logged:
            self.fail()
        self.assertEqual(len(logged.records), 1)

    def test_it_opens_after_failures_in_a_row(self):
        self.fail(FAILURES - 1)
        self.breaker.succeeded()
        self.fail(FAILURES - 1)
        self.assertTrue(self.breaker.admits())
        with self.assertLogs("ratelimiter_client", "WARNING"):
            self.fail(1)
        self.assertFalse(self.breaker.admits())

    def test_one_probe_a_second(self):
        self.open()
        for _ in range(3):
            self.now += 0.999
            self.assertFalse(self.breaker.admits())
            self.now += 0.001
            self.assertEqual([self.breaker.admits() for _ in range(3)], [True, False, False])
            self.fail(1)

    def test_a_probe_that_is_not_heard_of_is_replaced_after_its_time(self):
        self.open()
        self.now += 1
        self.assertTrue(self.breaker.admits())
        self.now += TIMEOUT + 0.999
        self.assertFalse(self.breaker.admits())
        self.now += 0.001
        self.assertTrue(self.breaker.admits())

    def test_a_probe_that_succeeds_closes_it(self):
        self.open()
        self.now += 1
        self.assertTrue(self.breaker.admits())
        with self.assertLogs("ratelimiter_client", "INFO"):
            self.breaker.succeeded()
        self.assertTrue(all(self.breaker.admits() for _ in range(10)))

    def test_of_many_threads_one_probes(self):
        self.open()
        self.now += 1
        barrier = threading.Barrier(8)
        admitted = []

        def run():
            barrier.wait()
            admitted.append(self.breaker.admits())

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sum(admitted), 1)


if __name__ == "__main__":
    unittest.main()
