"""What tests of leases share: a client that knows what it was asked, and a limiter by a clock that stands."""

import itertools
import time
import unittest

from support import PATIENT, URL

from ratelimiter_client import LeasedLimiter, RateLimiter
from ratelimiter_client.leasing.renewals import LEAST


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
