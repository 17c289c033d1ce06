"""Decisions by leases of the real service."""

import gc
import threading

from leasing import LeasedCase, Recording
from support import new_client_id

from ratelimiter_client import LeasedLimiter
from ratelimiter_client.leasing.renewals import LEAST


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
        for _ in range(15):
            self.assertFalse(self.limiter.check(self.client_id, "global", -1).allowed)
            for arguments in ((self.client_id, None), (None,), ([],), (True,)):
                with self.assertRaises(TypeError):
                    self.limiter.check(*arguments)
        self.assertEqual(len(self.client.leases), 1)

    def test_so_it_is_where_it_equals_what_is_leased(self):
        permits = self.limiter._in_use[self.client_id, "global"]
        self.limiter._in_use[1, "global"] = permits
        held = permits.left
        for client_id, cost in ((1.0, 1), (True, 1), (self.client_id, True), (self.client_id, 1.0)):
            with self.assertRaises(TypeError, msg=(client_id, cost)):
                self.limiter.check(client_id, cost=cost)
        for _ in range(15):
            self.assertIsNone(self.limiter.check(self.client_id, 1).error)
        with self.assertRaises(TypeError):
            self.limiter.check(self.client_id, True)
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
