"""Permits are used once, by whatever number of threads, and given back once."""

import sys
import threading
import unittest
from functools import partial

from ratelimiter_client.decision import Decision
from ratelimiter_client.leasing.demand import Demand
from ratelimiter_client.leasing.holding import Denial, Permits
from ratelimiter_client.leasing.holdings import Holdings

GRANTED = Decision(True, 900, 0, 1000, 60, 1.0, "gcra", 7, "within_limit", False)
DENIED = Decision(False, 0, 2500, 1000, 60, 1.0, "gcra", 7, "over_limit", False)
THREADS = 8


def permits(granted, until=100.0, low=0):
    return Permits("a lease", GRANTED, granted, until, low)


def popped(held):
    """What it hands out until it has nothing more."""
    found = []
    try:
        while True:
            found.append(held.pop())
    except IndexError:
        return found


def used(held):
    return popped(held).count(GRANTED)


def together(*functions):
    """Run all of them at once; their results."""
    barrier = threading.Barrier(len(functions))
    results = [None] * len(functions)

    def run(place):
        barrier.wait()
        results[place] = functions[place]()

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(functions))]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    return results


class TestPermits(unittest.TestCase):
    def test_as_many_as_were_granted_and_a_sign_when_few_are_left(self):
        for granted, low in ((1, 1), (2, 1), (8, 2), (100, 25)):
            found = popped(permits(granted, low=low))
            self.assertEqual((len(found), found.count(GRANTED)), (granted + 1, granted))
            self.assertEqual(found.index(None), granted - low)
        self.assertEqual(popped(permits(8)), [GRANTED] * 8)

    def test_several_at_once_or_none(self):
        held = permits(10, low=5)
        self.assertIs(held.take(4), GRANTED)
        self.assertIsNone(held.take(7))
        self.assertIs(held.take(6), GRANTED)
        self.assertIsNone(held.take(1))
        self.assertEqual(popped(held), [])

    def test_what_was_used_is_counted_once(self):
        held = permits(10)
        self.assertEqual(held.used(), 0)
        held.take(3)
        self.assertEqual((held.used(), held.used()), (3, 0))

    def test_drained_is_what_nobody_used(self):
        held = permits(10, low=5)
        held.take(3)
        self.assertEqual((held.drain(), held.drain()), (7, 0))
        self.assertIsNone(held.take(1))

    def test_threads_use_each_permit_once(self):
        held = permits(20_000, low=5_000)
        uses = together(*[partial(used, held)] * THREADS)
        self.assertEqual(sum(uses), 20_000)

    def test_what_is_drained_meanwhile_is_used_by_nobody(self):
        for _ in range(20):
            held = permits(2_000, low=500)
            *uses, unused = together(*[partial(used, held)] * THREADS, held.drain)
            self.assertEqual(sum(uses) + unused, 2_000)


class TestDenial(unittest.TestCase):
    def test_it_counts_down(self):
        denial = Denial.heard(DENIED, 10.0, 1.0)
        self.assertEqual([denial.as_of(now).retry_after_ms for now in (10.0, 10.25, 12.4995, 99)], [2500, 2250, 1, 1])

    def test_it_is_believed_for_its_wait_and_not_for_long(self):
        waits = ((2500, 11.0), (300, 10.3), (None, 11.0))
        for wait_ms, until in waits:
            denial = Denial.heard(DENIED._replace(retry_after_ms=wait_ms), 10.0, 1.0)
            self.assertAlmostEqual(denial.until, until)
            if wait_ms is None:
                self.assertIsNone(denial.as_of(10.5).retry_after_ms)


class TestHoldings(unittest.TestCase):
    def setUp(self):
        self.holdings = Holdings(3, lambda now: Demand(1.0, 100, now))

    def hold(self, name, until=100.0):
        holding = self.holdings.of((name, "x"), 0.0)
        self.holdings.add(holding, permits(10, until))
        return holding

    def test_the_longest_unused_goes_and_its_lease_back(self):
        leases = {name: self.hold(name).leases[0] for name in "abc"}
        self.holdings.of(("a", "x"), 1.0)
        self.hold("d")
        self.assertEqual(set(self.holdings.in_use), {("a", "x"), ("c", "x"), ("d", "x")})
        self.assertEqual(list(self.holdings.unused), [leases["b"]])

    def test_one_whose_permits_are_used_stays(self):
        leases = {name: self.hold(name).leases[0] for name in "abc"}
        leases["a"].pop()
        self.hold("d")
        self.assertEqual(list(self.holdings.unused), [leases["b"]])

    def test_the_lease_of_one_that_has_gone_goes_back(self):
        gone = self.hold("a")
        for name in "bcd":
            self.hold(name)
        self.holdings.unused.clear()
        late = permits(5)
        self.holdings.add(gone, late)
        self.assertEqual(list(self.holdings.unused), [late])
        self.assertNotIn(("a", "x"), self.holdings.in_use)

    def test_the_next_lease_follows_one_that_is_used_up_or_has_ended(self):
        holding = self.hold("a", until=50.0)
        first = holding.leases[0]
        self.hold("a", until=60.0)
        self.assertEqual(len(holding.leases), 2)
        self.assertIs(self.holdings.in_use["a", "x"], first)
        self.holdings.of(("a", "x"), 50.0)
        self.assertIs(self.holdings.in_use["a", "x"], holding.leases[0])
        holding.leases[0].drain()
        self.holdings.of(("a", "x"), 50.0)
        self.assertNotIn(("a", "x"), self.holdings.in_use)

    def test_what_ends_is_told_and_goes_back(self):
        early, late = self.hold("a", until=50.0), self.hold("b", until=60.0)
        self.assertEqual((self.holdings.first_end, self.holdings.ending(49.9)), (50.0, []))
        self.assertEqual((self.holdings.ending(50.0), self.holdings.first_end), ([early], 60.0))
        self.holdings.give_back(early, 50.0)
        self.assertEqual((self.holdings.ending(55.0), self.holdings.ending(61.0)), ([], [late]))
        self.assertEqual((len(self.holdings.unused), self.holdings.first_end), (1, float("inf")))
