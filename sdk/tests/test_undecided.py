"""Nothing is admitted unseen: what the service did not decide is logged, counted and told."""

import unittest

from support import PATIENT, URL, Broken, http, new_client_id
from test_middleware import Answer, application

from ratelimiter_client import LeasedLimiter, RateLimiter, RateLimiterError, RateLimitMiddleware, identify
from ratelimiter_client.errors import REASONS
from ratelimiter_client.undecided import LINE_SECONDS, Undecided

LOG = "ratelimiter_client"
NOWHERE = "http://127.0.0.1:1"


class TestLines(unittest.TestCase):
    """By a clock of the test's."""

    def setUp(self):
        self.now = 100.0
        self.undecided = Undecided("http://limiter", "open", clock=lambda: self.now)

    def said(self, times, reason="timed_out", status=None):
        with self.assertLogs(LOG) as logged:
            for _ in range(times):
                self.undecided.decision(RateLimiterError("why", reason=reason, status=status))
        return [record.getMessage() for record in logged.records]

    def test_the_first_at_once_then_a_line_a_minute_with_how_many(self):
        [line] = self.said(1000)
        self.assertRegex(line, "http://limiter did not decide a check: why .*fail mode open")
        self.now += LINE_SECONDS - 1
        self.undecided.decision(RateLimiterError("why", reason="not_reached"))  # the next line would have said so
        self.now += 1
        [line] = self.said(5)
        self.assertIn("did not decide 1001 checks since the last line, 1000 timed out, 1 not reached: why", line)
        self.now += 10 * LINE_SECONDS
        [line] = self.said(1, "refused", 401)
        self.assertIn("did not decide 5 checks since the last line, 4 timed out, 1 refused (401)", line)
        self.assertEqual(self.undecided.total, 1007)
        self.assertEqual(dict(self.undecided.reasons), {"timed_out": 1005, "not_reached": 1, "refused (401)": 1})

    def test_what_no_line_has_told_is_told_at_the_end(self):
        self.said(3)
        with self.assertLogs(LOG) as logged:
            self.undecided.flush()
            self.undecided.flush()
        self.assertEqual(
            [record.getMessage() for record in logged.records],
            ["the rate limiter at http://limiter did not decide 2 more checks"],
        )


class TestChecks(unittest.TestCase):
    def client(self, url=URL, **options):
        client = RateLimiter(url, **{"timeout": PATIENT, **options})
        self.addCleanup(client.close)
        return client

    def messages(self, call):
        with self.assertLogs(LOG) as logged:
            call()
        return [record.getMessage() for record in logged.records]

    def test_a_wrong_url_is_told_with_the_first_check(self):
        wrong = Broken(http("404 Not Found", b"<html>"))
        other = Broken(http("200 OK", b"<html>"))
        with wrong, other:
            for url in (NOWHERE, wrong.url, other.url):
                client = self.client(url)
                [line] = self.messages(lambda client=client: client.check("a"))
                self.assertIn(f"{url} did not decide a check", line)
                self.assertIn("is the url right?", line)

    def test_a_timeout_is_told_too(self):
        """F4."""
        with Broken() as hung:
            client = self.client(hung.url, timeout=0.02)
            [line] = self.messages(lambda: [client.check("a") for _ in range(3)])
        self.assertIn("timed out", line)
        self.assertEqual(client.health().reasons, {"timed_out": 3})

    def test_each_is_told_to_the_hook(self):
        errors = []
        client = self.client(NOWHERE, on_undecided=errors.append)
        client.check("a")
        client.peek("a")
        client.check_many([("a",), ("b",)])
        LeasedLimiter(client).check("a")
        client.check("a", cost=10**10)  # decided here
        self.assertEqual([error.reason for error in errors], ["not_reached"] * 5)
        self.assertIn("not_reached", REASONS)
        strict = self.client(NOWHERE, on_undecided=errors.append, fail_mode="raise")
        with self.assertRaises(RateLimiterError) as raised:
            strict.check("a")
        self.assertIs(errors[-1], raised.exception)
        with self.assertRaisesRegex(TypeError, "^on_undecided is 1"):
            RateLimiter(NOWHERE, on_undecided=1)

    def test_a_hook_that_fails_costs_no_decision(self):
        client = self.client(NOWHERE, on_undecided=lambda error: 1 / 0)
        said = self.messages(lambda: [client.check("a") for _ in range(3)])
        self.assertTrue(client.check("a").allowed)
        self.assertEqual(sum("on_undecided failed" in line for line in said), 1)

    def test_health_tells_whether_it_decides_and_what_was_not(self):
        client = self.client()
        health = client.health()
        self.assertEqual((health.ok, health.error, health.degraded), (True, None, False))
        self.assertEqual([(node.url, node.state) for node in health.nodes], [(URL, "available")])
        client.check(new_client_id())
        self.assertEqual(client.health()[4:], (1, 0, {}, None))
        gone = self.client(NOWHERE)
        for _ in range(7):
            gone.check("a")
        health = gone.health()
        self.assertEqual((health.ok, health.calls, health.undecided), (False, 7, 7))
        self.assertEqual((health.nodes[0].state, health.reasons), ("failing", {"not_reached": 5, "not_asked": 2}))
        self.assertIn("refused", health.error)

    def test_a_limit_key_that_no_rule_names_is_told_once(self):
        client = self.client()
        said = self.messages(lambda: [client.check(new_client_id(), "serach") for _ in range(3)])
        self.assertEqual(len(said), 1, said)
        self.assertIn("no rule names the limit key 'serach'", said[0])
        named = new_client_id(10)
        said = self.messages(lambda: [client.check(named, key) for key in ("global", "global", "a", "b")])
        self.assertEqual(len(said), 1, said)
        self.assertIn("no rule names the limit key 'a' and 'global'", said[0])


class TestProxies(unittest.TestCase):
    def test_a_proxy_that_nobody_named_is_told_once(self):
        """F20."""
        with RateLimiter(URL, timeout=PATIENT) as client:
            app = RateLimitMiddleware(application, client)
            for variables, text in (
                (
                    {"REMOTE_ADDR": "192.0.2.1", "HTTP_X_FORWARDED_FOR": "198.51.100.1"},
                    "192.0.2.1, which is no trusted",
                ),
                ({"REMOTE_ADDR": ""}, "no REMOTE_ADDR"),
            ):
                app = RateLimitMiddleware(application, client)
                with self.assertLogs(LOG) as logged:
                    for _ in range(3):
                        Answer(app, **variables)
                self.assertEqual(sum(text in record.getMessage() for record in logged.records), 1)

    def test_one_that_is_named_is_not(self):
        find = identify.address(["192.0.2.0/24", "unix"])
        with self.assertLogs(LOG) as logged:
            identify.log.warning("something")
            find({"REMOTE_ADDR": "192.0.2.1", "HTTP_X_FORWARDED_FOR": "198.51.100.1"})
            find({"REMOTE_ADDR": "", "HTTP_X_FORWARDED_FOR": "198.51.100.1"})
            find({"REMOTE_ADDR": "203.0.113.1"})
            fixed = {"werkzeug.proxy_fix.orig": {}, "HTTP_X_FORWARDED_FOR": "198.51.100.1"}
            identify.address()({"REMOTE_ADDR": "198.51.100.1", **fixed})
        self.assertEqual(len(logged.records), 1)

    def test_what_is_no_network_is_named(self):
        with self.assertRaisesRegex(ValueError, "^trusted_proxies has 'nginx', allowed are "):
            RateLimitMiddleware(application, RateLimiter(URL), trusted_proxies=["nginx"])


if __name__ == "__main__":
    unittest.main()
