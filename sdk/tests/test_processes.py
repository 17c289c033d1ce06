"""Forked children have nothing of their parent's: no socket, no lock, no ids of requests."""

import os
import unittest
import warnings

from support import PATIENT, Relay, new_client_id

from ratelimiter_client import RateLimiter

CHILDREN = 4


@unittest.skipUnless(hasattr(os, "fork"), "this system does not fork")
class TestForks(unittest.TestCase):
    def in_children(self, run):
        """What `run()`, text, came to in each of them, all at work at the same time."""
        reads = []
        pids = []
        for _ in range(CHILDREN):
            read, write = os.pipe()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # the relay has threads, which the child needs not
                pid = os.fork()
            if pid == 0:
                try:
                    os.write(write, run().encode())
                finally:
                    os._exit(0)
            os.close(write)
            reads.append(read)
            pids.append(pid)
        results = []
        for read, pid in zip(reads, pids):
            with open(read) as pipe:
                results.append(pipe.read())
            os.waitpid(pid, 0)
        return results

    def test_four_children_are_exact_and_share_no_connection(self):
        with Relay() as relay, RateLimiter(relay.url, timeout=PATIENT) as client:
            client_id = new_client_id(100)
            self.assertEqual(client.check(client_id).remaining, 99)
            self.assertEqual(relay.connections, 1)

            def run():
                decisions = [client.check(client_id) for _ in range(50)]
                assert all(decision.error is None for decision in decisions)
                return str(sum(decision.allowed for decision in decisions))

            self.assertEqual(sum(map(int, self.in_children(run))), 99)
            self.assertEqual(relay.connections, 1 + CHILDREN)
            self.assertEqual(client.peek(client_id).remaining, 0)
            self.assertEqual(relay.connections, 1 + CHILDREN)  # the parent's still serves

    def test_a_lock_that_was_held_is_not_inherited(self):
        with RateLimiter("http://127.0.0.1:1", timeout=PATIENT) as client:
            client.check("a")
            with client._service.process.breaker._lock:
                errors = self.in_children(lambda: client.check("a").error)
            self.assertEqual(["refused" in error for error in errors], [True] * CHILDREN)

    def test_ids_differ(self):
        with RateLimiter("http://127.0.0.1:1", timeout=PATIENT) as client:
            ids = self.in_children(lambda: client._service.process.new_id())
            self.assertEqual(len({client._service.process.new_id(), *ids}), 1 + CHILDREN)


if __name__ == "__main__":
    unittest.main()
