"""Leases over a fork: nobody has the permits of another process."""

import multiprocessing
import os
import unittest

from leasing import LeasedCase
from support import new_client_id

from ratelimiter_client.leasing.renewals import LEAST


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
