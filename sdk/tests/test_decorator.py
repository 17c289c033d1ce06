"""Functions whose calls are checks."""

import pickle
import unittest

from support import PATIENT, URL, new_client_id

from ratelimiter_client import RateLimited, RateLimiter, RateLimiterError


class TestDecorator(unittest.TestCase):
    def setUp(self):
        self.client = RateLimiter(URL, timeout=PATIENT)
        self.addCleanup(self.client.close)

    def test_a_denied_call_raises_and_does_not_run(self):
        ran = []

        @self.client.limit("mail", identify=new_client_id(5), cost=2)
        def send(to, *, text=""):
            """Sends."""
            ran.append((to, text))
            return to

        self.assertEqual((send.__name__, send.__doc__), ("send", "Sends."))
        self.assertEqual([send("a"), send("b", text="c")], ["a", "b"])
        with self.assertRaises(RateLimited) as denied:
            send("d")
        self.assertEqual(denied.exception.decision.remaining, 1)
        self.assertEqual(ran, [("a", ""), ("b", "c")])

    def test_what_it_raises_crosses_processes(self):
        """Pickled, as by a Pool of multiprocessing, whose callers wait for ever for what cannot be unpickled."""
        decision = self.client.peek(new_client_id())._replace(allowed=False, retry_after_ms=7)
        for error in (RateLimited(decision), RateLimiterError("no", status=503, retry_after_ms=7)):
            back = pickle.loads(pickle.dumps(error))
            self.assertEqual((type(back), str(back), vars(back)), (type(error), str(error), vars(error)))
        self.assertEqual(str(RateLimited(decision)), "denied, retry_after_ms is 7")

    def test_each_by_its_arguments(self):
        prefix = new_client_id(1)

        @self.client.limit(identify=lambda user: prefix + user, on_denied=lambda decision: decision.reason)
        def greet(user):
            return "hello " + user

        self.assertEqual([greet("a"), greet("b"), greet("a")], ["hello a", "hello b", "over_limit"])


if __name__ == "__main__":
    unittest.main()
