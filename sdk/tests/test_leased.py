"""Decisions by leases of the real service."""

import gc
import itertools
import multiprocessing
import os
import sys
import threading
import time
import types
import unittest

from support import PATIENT, URL, Relay, new_client_id

from ratelimiter_client import LeasedLimiter, RateLimiter, RateLimiterError
from ratelimiter_client.renewals import LEAST
from ratelimiter_client.upkeep import locked


class Recording(RateLimiter):
    """Knows what the service was asked."""

    def __init__(self, url=URL, **options):
        super().__init__(url, **{"timeout": PATIENT, **options})
        self.checks, self.leases, self.returns = [], [], []

    def check(self, client_id, limit_key="global", cost=1, **options):
        self.checks.append(cost)
        return super().check(client_id, limit_key, cost, **options)

    def lease(self, client_id, limit_key, permits, ttl):
        lease = super().lease(client_id, limit_key, permits, ttl)
        self.leases.append(lease.granted)
        return lease

    def return_lease(self, lease_id, unused):
        returned = super().return_lease(lease_id, unused)
        self.returns.append(returned)
        return returned


class LeasedCase(unittest.TestCase):
    """`client` asks the service, `limiter` leases from it by a clock that stands at `now` unless the test moves it."""

    def setUp(self):
        self.now = 1000.0
        self.client = self.enter(Recording())
        self.limiter = self.leasing(self.client)

    def enter(self, manager):
        entered = manager.__enter__()
        self.addCleanup(manager.__exit__, None, None, None)
        return entered

    def leasing(self, client, size=50, ttl=60, **options):
        return self.enter(LeasedLimiter(client, size, ttl, clock=lambda: self.now, **options))

    def eventually(self, holds):
        give_up = time.monotonic() + PATIENT
        while not holds():
            self.assertLess(time.monotonic(), give_up)
            time.sleep(0.005)

    def held(self, client_id, limiter=None):
        """Permits of the lease in use."""
        permits = (limiter or self.limiter)._in_use.get((client_id, "global"))
        return permits.left if permits else 0

    def until_leased(self, client_id, limiter=None):
        """Check until there is a lease, of as many permits as there were checks; how many, the last by a permit."""
        limiter = limiter or self.limiter
        for _ in range(LEAST):
            self.assertFalse(limiter._process().in_use)
            self.assertTrue(limiter.check(client_id).allowed)
        self.assertTrue(limiter._process().in_use)
        return LEAST

    def admitted(self, limiter, client_id):
        """How many checks are, until it denies them by itself, having heard so from the service."""
        for admitted in itertools.count():
            while not limiter.check(client_id).allowed:
                if limiter._process()._holdings.of((client_id, "global"), self.now).is_denied(self.now):
                    return admitted
        return None

    def left(self, client_id):
        decision = self.client.peek(client_id)
        self.assertFalse(decision.degraded, "Redis did not answer the service in time")
        return decision.remaining


class TestDemand(LeasedCase):
    def test_what_is_asked_rarely_is_asked_of_the_service(self):
        client_id = new_client_id(1000)
        for number in range(30):
            self.now += 10  # of a ttl of 60: six in a ttl
            self.assertEqual(self.limiter.check(client_id).remaining, 999 - number)
        self.assertEqual((self.client.leases, threading.active_count()), ([], 1))

    def test_what_is_asked_often_is_leased_as_much_as_it_was_asked(self):
        client_id = new_client_id(1000)
        self.until_leased(client_id)
        self.assertEqual((len(self.client.checks), self.client.leases), (LEAST - 1, [LEAST]))
        asked = len(self.client.checks)
        first, second = self.limiter.check(client_id), self.limiter.check(client_id)
        self.assertIs(first, second)
        self.assertTrue(first.allowed)
        self.assertEqual(len(self.client.checks), asked)

    def test_every_permit_is_charged_once_and_at_most_size_are_out(self):
        client_id = new_client_id(10_000)
        for number in range(1, 2001):
            self.assertTrue(self.limiter.check(client_id).allowed)
            if number % 100 == 0:
                self.assertTrue(number <= 10_000 - self.left(client_id) <= number + 51)
        self.assertLess(len(self.client.checks), 100)
        self.limiter.close()
        self.assertEqual(self.left(client_id), 8_000)

    def test_an_idle_lease_goes_back_before_it_ends(self):
        client_id = new_client_id(1000)
        limiter = self.enter(LeasedLimiter(self.client, size=50, ttl=0.4))
        checks = 0
        while not limiter._process().in_use:
            self.assertTrue(limiter.check(client_id).allowed)
            checks += 1
        self.eventually(lambda: self.left(client_id) == 1000 - checks)
        self.assertEqual(limiter._in_use, {})

    def test_the_lease_of_one_that_fell_idle_is_renewed_once_at_most(self):
        client_id = new_client_id(1000)
        limiter = self.enter(LeasedLimiter(self.client, size=50, ttl=0.4))
        for _ in range(200):
            limiter.check(client_id)
        leases = len(self.client.leases)
        self.eventually(lambda: not limiter._in_use and self.left(client_id) == 800)
        self.assertLessEqual(len(self.client.leases), leases + 1)

    def test_who_is_asked_less_asks_the_service_again(self):
        client_id = new_client_id(1000)
        self.until_leased(client_id)
        self.now += 120  # the lease has ended, and a seventh of the demand is left
        asked = len(self.client.checks)
        for _ in range(5):
            self.limiter.check(client_id)
        self.assertEqual(self.client.checks[asked:], [1] * 5)
        self.assertEqual(len(self.client.leases), 1)


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


class TestFairness(LeasedCase):
    def test_permits_of_an_idle_holder_are_nobody_elses_until_they_come_back(self):
        client_id = new_client_id(60)
        used = self.until_leased(client_id)
        kept = self.client.leases[0] - 1
        other = self.leasing(self.enter(Recording()))
        self.assertEqual(self.admitted(other, client_id), 60 - used - kept)
        self.now += 30
        self.assertEqual(self.admitted(other, client_id), 0)
        self.limiter.close()
        self.now += 1  # the other believes its denial no longer
        self.assertEqual(self.admitted(other, client_id), kept)

    def test_when_the_window_ends_others_have_all_of_the_next_beside_what_is_out(self):
        client_id = new_client_id("window")
        self.until_leased(client_id)
        out = self.held(client_id) - 1
        self.eventually(lambda: self.left(client_id) == 40)
        other = self.leasing(self.enter(Recording()))
        self.assertEqual(self.admitted(other, client_id), 40)
        self.assertEqual([self.limiter.check(client_id).allowed for _ in range(out)], [True] * out)

    def test_one_that_is_closed_asks_the_service(self):
        client_id = new_client_id(1000)
        self.until_leased(client_id)
        self.limiter.close()
        before = self.left(client_id)
        self.assertEqual(self.limiter.check(client_id).remaining, before - 1)

    def test_one_that_is_forgotten_returns_its_permits(self):
        client_id = new_client_id(1000)
        limiter = LeasedLimiter(self.client, ttl=60, clock=lambda: self.now)
        checks = self.until_leased(client_id, limiter)
        del limiter
        gc.collect()
        self.eventually(lambda: self.client.returns)
        self.assertEqual(self.left(client_id), 1000 - checks)

    def test_the_key_that_makes_room_returns_its_permits(self):
        limiter = self.leasing(self.client, keys=1)
        client_id = new_client_id(1000)
        checks = self.until_leased(client_id, limiter)
        limiter.check(new_client_id())  # of the first, nothing was used since
        self.eventually(lambda: self.client.returns)
        self.assertEqual(self.left(client_id), 1000 - checks)


class TestDenials(LeasedCase):
    def setUp(self):
        super().setUp()
        self.client_id = new_client_id(40)
        self.assertEqual(self.admitted(self.limiter, self.client_id), 40)
        self.asked = len(self.client.checks)

    def test_a_denial_is_remembered_and_counts_down_for_a_second_at_most(self):
        first = self.limiter.check(self.client_id)
        self.now += 0.75
        second = self.limiter.check(self.client_id)
        self.assertEqual((first.allowed, first.reason, first.degraded), (False, "over_limit", False))
        self.assertEqual(second, first._replace(retry_after_ms=first.retry_after_ms - 750))
        self.assertEqual(len(self.client.checks), self.asked)
        leases = len(self.client.leases)
        self.now += 0.25
        self.assertFalse(self.limiter.check(self.client_id).allowed)
        self.assertEqual((len(self.client.checks), self.client.leases[leases:]), (self.asked, [0]))

    def test_of_more_than_one_unit_the_service_tells_the_wait(self):
        self.assertFalse(self.limiter.check(self.client_id, cost=2).allowed)
        self.assertEqual(self.client.checks[self.asked :], [2])


class TestCost(LeasedCase):
    def setUp(self):
        super().setUp()
        self.client_id = new_client_id(1000)
        self.used = self.until_leased(self.client_id)
        self.asked = len(self.client.checks)

    def test_as_many_permits_as_it_costs(self):
        held = self.held(self.client_id)
        self.assertTrue(self.limiter.check(self.client_id, cost=5).allowed)
        self.assertEqual(self.held(self.client_id), held - 5)
        self.assertEqual(len(self.client.checks), self.asked)

    def test_more_than_a_lease_is_asked_of_the_service(self):
        self.assertTrue(self.limiter.check(self.client_id, cost=51).allowed)
        self.assertEqual(self.client.checks[self.asked :], [51])
        self.limiter.close()
        self.assertEqual(self.left(self.client_id), 1000 - self.used - 51)

    def test_a_peek_and_an_id_are_the_services(self):
        held = self.held(self.client_id)
        self.limiter.peek(self.client_id)
        self.limiter.check(self.client_id, cost=0)
        self.limiter.check(self.client_id, request_id="1")
        self.assertEqual(self.client.checks[self.asked :], [0, 0, 1])
        self.assertEqual(self.held(self.client_id), held)

    def test_what_the_service_refuses_is_as_without_leases(self):
        for arguments in ((self.client_id, "global", -1), (self.client_id, None), (None,), ([],), (10**5000,), (True,)):
            for _ in range(15):
                self.assertIsNotNone(self.limiter.check(*arguments).error)
        self.assertEqual(len(self.client.leases), 1)

    def test_so_it_is_where_it_equals_what_is_leased(self):
        permits = self.limiter._in_use[self.client_id, "global"]
        self.limiter._in_use[1, "global"] = permits
        held = permits.left
        for client_id, cost in ((1.0, 1), (True, 1), (self.client_id, True), (self.client_id, 1.0)):
            self.assertIsNotNone(self.limiter.check(client_id, cost=cost).error, (client_id, cost))
        for _ in range(15):
            self.assertIsNone(self.limiter.check(self.client_id, 1).error)
        self.assertIsNotNone(self.limiter.check(self.client_id, True).error)
        self.assertEqual(permits.left, held)
        self.assertIsNone(self.limiter.check(1).error)
        self.assertLess(permits.left, held)


class TestTime(LeasedCase):
    def test_nothing_is_used_after_its_end(self):
        client_id = new_client_id(1000)
        self.until_leased(client_id)
        self.now += 60 - 1e-6
        asked = len(self.client.checks)
        self.limiter.check(client_id)
        self.assertEqual(len(self.client.checks), asked)
        self.now += 1e-6
        decision = self.limiter.check(client_id)
        self.assertEqual(decision.remaining, 1000 - len(self.client.checks) - sum(self.client.leases))
        self.assertEqual(len(self.client.checks), asked + 1)

    def test_the_time_begins_before_the_lease_is_asked_for(self):
        client = Recording()
        sent = []

        def slow(client_id, limit_key, permits, ttl):
            sent.append(self.now)
            self.now += 40
            return Recording.lease(client, client_id, limit_key, permits, ttl)

        client.lease = slow
        limiter = self.leasing(self.enter(client))
        self.until_leased(new_client_id(1000), limiter)
        [permits] = limiter._in_use.values()
        self.assertEqual(permits.until, sent[0] + 60)


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


@unittest.skipUnless(hasattr(os, "fork"), "this system does not fork")
class TestFork(LeasedCase):
    def in_child(self, work):
        """What it returns, text; the parent waits for it."""
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(writing, work().encode())
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as result:
            said = result.read()
        os.waitpid(pid, 0)
        return said

    def test_a_child_begins_with_nothing_and_returns_nothing_of_its_parents(self):
        client_id = new_client_id(1000)
        self.until_leased(client_id)
        held, left = self.held(client_id), self.left(client_id)

        def child():
            nothing = not self.limiter._in_use
            remaining = self.limiter.check(client_id).remaining
            self.limiter.close()
            return f"{nothing} {remaining} {self.client.returns}"

        self.assertEqual(self.in_child(child), f"True {left - 1} []")
        self.assertEqual((self.held(client_id), self.left(client_id)), (held, left - 1))

    def test_a_child_leases_for_itself(self):
        client_id = new_client_id(1000)
        used = self.until_leased(client_id)

        def child():
            checks = self.until_leased(client_id)
            self.limiter.close()
            return str(checks)

        used += int(self.in_child(child))
        self.limiter.close()
        self.assertEqual(self.left(client_id), 1000 - used)

    def test_a_child_of_multiprocessing_returns_its_permits(self):
        client_id = new_client_id(1000)
        child = multiprocessing.get_context("fork").Process(target=self.until_leased, args=(client_id,))
        child.start()
        child.join()
        self.assertEqual((child.exitcode, self.left(client_id)), (0, 1000 - LEAST))

    def test_even_where_nobody_tells_python_of_the_fork(self):
        client_id = new_client_id(1000)
        self.until_leased(client_id)
        [(pid, renewals)] = self.limiter._renewals.items()
        self.limiter._renewals = {pid + 1: renewals}  # as it is in a child of which os.register_at_fork did not hear
        left = self.left(client_id)
        self.limiter.check(client_id, cost=2)
        self.assertEqual((self.left(client_id), self.limiter._in_use), (left - 2, {}))
        self.limiter._renewals[pid + 1] = renewals  # to be stopped
