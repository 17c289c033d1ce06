"""How the demand for a key is estimated, by a clock of the test's."""

import unittest

from ratelimiter_client.leasing.demand import Demand

SECONDS = 2.0


class TestDemand(unittest.TestCase):
    def test_a_steady_rate_comes_to_what_it_needs_for_the_time(self):
        for lump, every in ((1, 0.02), (50, 1.0), (500, 10.0)):  # 50 a second, three times
            demand = Demand(SECONDS, 1_000, 0.0)
            for number in range(1, 101):
                demand.add(lump, number * every)
            self.assertAlmostEqual(demand.units, 50 * SECONDS * (1 - 2.718 ** -(100 * every / SECONDS)), delta=0.1)

    def test_a_burst_counts_for_what_it_is(self):
        demand = Demand(SECONDS, 1_000, 0.0)
        for number in range(40):
            demand.add(1, number * 1e-6)
        self.assertAlmostEqual(demand.units, 40, delta=0.01)

    def test_it_fades(self):
        demand = Demand(SECONDS, 1_000, 0.0)
        demand.add(100, 0.0)
        demand.add(0, SECONDS)
        self.assertAlmostEqual(demand.units, 36.8, delta=0.1)
        demand.add(0, 5 * SECONDS)
        self.assertLess(demand.units, 1)

    def test_what_nobody_could_lease_is_not_counted(self):
        demand = Demand(SECONDS, 100, 0.0)
        demand.add(1_000_000, 0.0)
        self.assertEqual(demand.units, 100)

    def test_a_clock_that_went_back_takes_nothing_away(self):
        demand = Demand(SECONDS, 100, 10.0)
        demand.add(5, 9.0)
        self.assertEqual(demand.units, 5)
