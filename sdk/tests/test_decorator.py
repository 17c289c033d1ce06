"""Functions whose calls are checks."""

import unittest

from support import PATIENT, URL, new_client_id

from ratelimiter_client import RateLimited, RateLimiter


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

    def test_each_by_its_arguments(self):
        prefix = new_client_id(1)

        @self.client.limit(identify=lambda user: prefix + user, on_denied=lambda decision: decision.reason)
        def greet(user):
            return "hello " + user

        self.assertEqual([greet("a"), greet("b"), greet("a")], ["hello a", "hello b", "over_limit"])


if __name__ == "__main__":
    unittest.main()
