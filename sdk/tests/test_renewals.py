"""Who brings the next lease, and what is decided where none comes."""

import sys
import threading
import time
import types

from leasing import LeasedCase, Recording
from support import PATIENT, Relay, new_client_id

from ratelimiter_client import LeasedLimiter, RateLimiterError
from ratelimiter_client.leasing.background import locked
from ratelimiter_client.leasing.renewals import LEAST


class TestRenewal(LeasedCase):
    def lease(self, client_id, limit_key, permits, ttl):
        self.acquired_by.append(threading.current_thread().name)
        return Recording.lease(self.client, client_id, limit_key, permits, ttl)

    def setUp(self):
        super().setUp()
        self.acquired_by = []
        self.client.lease = self.lease
        self.client_id = new_client_id(1000)
        self.until_leased(self.client_id)
        self.asked = len(self.client.checks)

    def test_a_thread_brings_the_next_lease_before_this_one_is_used_up(self):
        held = self.held(self.client_id)
        self.now += 1  # a lease that lasts
        while held:
            self.assertTrue(self.limiter.check(self.client_id).allowed)
            held -= 1
            if len(self.acquired_by) < 2 and held == 2:
                self.eventually(lambda: len(self.limiter._process()._holdings.of(self.key(), self.now).leases) == 2)
        self.assertTrue(self.limiter.check(self.client_id).allowed)
        self.assertEqual(self.acquired_by[1], "ratelimiter-leases")
        self.assertEqual(len(self.client.checks), self.asked)

    def key(self):
        return (self.client_id, "global")

    def test_a_lease_that_lasts_a_moment_is_followed_by_the_caller_himself(self):
        for _ in range(500):
            self.assertTrue(self.limiter.check(self.client_id).allowed)
        self.assertGreater(len(self.acquired_by), 10)
        self.assertEqual(set(self.acquired_by), {threading.current_thread().name})
        self.assertEqual(len(self.client.checks), self.asked)

    def test_who_finds_nothing_waits_for_the_renewal_under_way(self):
        begun, go_on = threading.Event(), threading.Event()

        def slow(*arguments):
            begun.set()
            go_on.wait(PATIENT)
            return TestRenewal.lease(self, *arguments)

        self.client.lease = slow
        threads = [threading.Thread(target=self.limiter.check, args=(self.client_id,)) for _ in range(20)]
        for thread in threads:
            thread.start()
        self.assertTrue(begun.wait(PATIENT))
        go_on.set()
        for thread in threads:
            thread.join()
        self.assertEqual((len(self.client.checks), len(self.acquired_by)), (self.asked, 2))

    def test_who_waited_in_vain_asks_the_service_and_not_for_a_lease(self):
        client_id = new_client_id(1000)
        begun, go_on, looked = threading.Event(), threading.Event(), []

        def slow(client_id, limit_key, permits, ttl):
            begun.set()
            go_on.wait(PATIENT)
            return TestRenewal.lease(self, client_id, limit_key, 1, ttl)

        def clock():
            looked.append(threading.current_thread())
            return self.now

        limiter = self.enter(LeasedLimiter(self.client, 50, 60, clock=clock))
        limiter._process()._want = lambda *_: None  # nor does the thread bring any
        first, second = (threading.Thread(target=limiter.check, args=(client_id,)) for _ in range(2))
        for _ in range(LEAST - 1):
            limiter.check(client_id)
        asked, acquired = len(self.client.checks), len(self.acquired_by)
        self.client.lease = slow
        first.start()
        self.assertTrue(begun.wait(PATIENT))
        second.start()
        self.eventually(lambda: looked.count(second) == 2)  # when it began, and under the lock
        with limiter._process()._lock:
            go_on.set()
        first.join()
        second.join()
        self.assertEqual((len(self.client.checks), len(self.acquired_by)), (asked + 1, acquired + 1))

    def test_of_32_threads_exactly_what_was_granted_is_admitted(self):
        client_id = new_client_id(3_000)
        admitted = []

        def run():
            count = 0
            while self.limiter.check(client_id).allowed:
                count += 1
            admitted.append(count)

        threads = [threading.Thread(target=run) for _ in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.limiter.close()
        self.assertEqual(sum(admitted), 3_000 - self.left(client_id))
        self.assertGreater(len(self.acquired_by), 10)


class TestFailures(LeasedCase):
    def test_permits_last_while_the_service_is_gone_then_the_fail_mode_decides(self):
        for fail_mode in ("open", "closed"):
            relay = Relay()
            with relay:
                limiter = self.leasing(self.enter(Recording(relay.url, fail_mode=fail_mode)))
                self.until_leased(new_client_id(1000), limiter)
            [(client_id, _)] = limiter._in_use
            held = limiter._in_use[client_id, "global"].left - 1
            decisions = [limiter.check(client_id) for _ in range(held)]
            self.assertEqual({decision.error for decision in decisions}, {None})
            after = limiter.check(client_id)
            self.assertIsNotNone(after.error)
            self.assertEqual(after.allowed, fail_mode == "open")

    def test_it_raises_only_where_that_was_asked_for(self):
        with Relay() as relay:
            limiter = self.leasing(self.enter(Recording(relay.url, fail_mode="raise")))
            client_id = new_client_id(1000)
            self.until_leased(client_id, limiter)
        for _ in range(limiter._in_use[client_id, "global"].left - 1):
            self.assertTrue(limiter.check(client_id).allowed)
        with self.assertRaises(RateLimiterError):
            limiter.check(client_id)
        limiter.close()

    def test_a_refused_lease_is_tried_once_a_second_and_told_once(self):
        client_id = new_client_id(1000)
        tried = []

        def refused(*arguments):
            tried.append(arguments)
            raise RateLimiterError("no such route", status=404)

        self.client.lease = refused
        with self.assertLogs("ratelimiter_client", "ERROR") as logged:
            for seconds in range(3):
                self.now = 1000.0 + seconds
                for _ in range(20):
                    self.assertTrue(self.limiter.check(client_id).allowed)
                self.assertEqual(len(tried), seconds + 1)
        self.assertEqual(len(logged.records), 1)
        self.assertEqual(self.left(client_id), 940)

    def test_without_a_thread_the_service_decides_everything(self):
        client_id = new_client_id(1000)
        before = threading.stack_size(1 << 46)  # more than there is, so that no thread can be started
        try:
            with self.assertRaises(RuntimeError):
                threading.Thread(target=int).start()
            decisions = [self.limiter.check(client_id) for _ in range(50)]
        finally:
            threading.stack_size(before)
        self.assertEqual([decision.remaining for decision in decisions], list(range(999, 949, -1)))

    def test_in_a_process_that_is_forked_unseen_the_service_decides_everything(self):
        client_id = new_client_id(1000)
        uwsgi = types.ModuleType("uwsgi")  # as it is to what runs inside; 0 is the master
        uwsgi.worker_id = lambda: worker
        self.addCleanup(sys.modules.pop, "uwsgi")
        sys.modules["uwsgi"] = uwsgi
        worker = 0
        decisions = [self.limiter.check(client_id) for _ in range(50)]
        self.assertEqual([decision.remaining for decision in decisions], list(range(999, 949, -1)))
        worker = 1
        self.limiter.check(client_id)
        self.assertEqual(len(self.client.leases), 1)

    def test_who_is_interrupted_leaves_no_renewal_behind(self):
        """As by a signal, whose handler may raise anywhere."""
        client_id = new_client_id(1000)
        looked = []

        def clock():
            if threading.current_thread() is threading.main_thread():
                looked.append(self.now)
                if len(looked) == interrupted:
                    raise KeyboardInterrupt
            return self.now

        interrupted = 0
        limiter = self.enter(LeasedLimiter(self.client, 50, 60, clock=clock))
        for _ in range(LEAST - 1):
            limiter.check(client_id)
        interrupted = len(looked) + 3  # when it begins, under the lock, and in the renewal
        with self.assertRaises(KeyboardInterrupt):
            limiter.check(client_id)
        self.assertIsNone(limiter._process()._holdings.of((client_id, "global"), self.now).renewal)

    def test_a_renewal_that_nobody_ends_is_waited_for_once(self):
        """However that came about: it takes longer than a trip may."""
        client_id = new_client_id(1000)
        limiter = self.enter(LeasedLimiter(self.enter(Recording(timeout=0.2)), 50, 60))
        for _ in range(LEAST - 1):
            limiter.check(client_id)
        holding = limiter._process()._holdings.of((client_id, "global"), time.monotonic())
        holding.renewal = locked()
        limiter.check(client_id)
        self.assertIsNone(holding.renewal)

    def test_arguments_out_of_bounds_are_named(self):
        beyond = ({"size": 0}, {"size": 100_001}, {"ttl": 0}, {"ttl": 3601}, {"keys": 0})
        for wrong in (*beyond, {"size": 10.5}, {"size": "1"}, {"ttl": "x"}, {"ttl": None}, {"keys": None}):
            with self.assertRaisesRegex(ValueError, f"{next(iter(wrong))} is .*, allowed"):
                LeasedLimiter(self.client, **wrong)
