"""What the client asks and what it makes of the answers of the real service."""

import unittest
from enum import IntEnum

from support import PATIENT, URL, Broken, http, new_client_id

from ratelimiter_client import Check, RateLimiter, RateLimiterError


class TestChecks(unittest.TestCase):
    def setUp(self):
        self.client = RateLimiter(URL, timeout=PATIENT)
        self.addCleanup(self.client.close)

    def test_a_check_is_charged_and_a_peek_is_not(self):
        client_id = new_client_id()
        decision = self.client.check(client_id, "login", 3)
        self.assertEqual((decision.allowed, decision.remaining, decision.retry_after_ms), (True, 97, 0))
        self.assertEqual((decision.limit, decision.window, decision.rule_id), (100, 60, "default"))
        self.assertEqual((decision.reason, decision.degraded, decision.error), ("within_limit", False, None))
        self.assertEqual([name for name, _ in decision.headers], ["RateLimit-Policy", "RateLimit"])
        self.assertLessEqual(self.client.peek(client_id, "login").remaining, 98)
        self.assertGreaterEqual(self.client.peek(client_id, "login").remaining, 97)

    def test_a_denial_is_a_decision(self):
        client_id = new_client_id(2)
        self.assertEqual([self.client.check(client_id).allowed for _ in range(4)], [True, True, False, False])
        denied = self.client.check(client_id)
        self.assertEqual((denied.reason, denied.remaining, denied.error), ("over_limit", 0, None))
        self.assertGreater(denied.retry_after_ms, 0)
        self.assertIn("Retry-After", dict(denied.headers))

    def test_the_same_request_id_is_the_same_check(self):
        client_id = new_client_id(10)
        decisions = {self.client.check(client_id, request_id=client_id) for _ in range(3)}
        self.assertEqual(len(decisions), 1)
        self.assertEqual(self.client.peek(client_id).remaining, 9)

    def test_many_are_answered_in_their_order(self):
        client_id = new_client_id(2)
        asked = [
            Check(client_id),
            (client_id, "global", 5),
            {"client_id": client_id},
            (client_id,),
            (client_id, "global", 10**9 + 1),
            (client_id, "global", 0, "?"),
        ]
        decisions = self.client.check_many(asked)
        self.assertEqual([decision.allowed for decision in decisions], [True, False, True, False, False, True])
        self.assertEqual({decision.error for decision in decisions}, {None})
        self.assertEqual(self.client.check_many([]), [])

    def test_more_than_a_batch_takes_are_several(self):
        client_id = new_client_id(3000)
        decisions = self.client.check_many([(client_id,)] * 2020)
        self.assertEqual({(decision.allowed, decision.error) for decision in decisions}, {(True, None)})
        self.assertEqual(self.client.peek(client_id).remaining, 3000 - 2020)

    def test_large_checks_are_several_batches(self):
        start = new_client_id()
        decisions = self.client.check_many([(f"{start}-{number}".ljust(256, "é"),) for number in range(500)])
        self.assertEqual({(decision.remaining, decision.error) for decision in decisions}, {(99, None)})

    def test_names_the_service_would_refuse_are_limited_too(self):
        start = new_client_id()
        for name in (start + "x" * 300, start + "\n", start + "\x85", start + "\ud800"):
            self.assertEqual(self.client.check(name, "x" * 200, 40).remaining, 60, ascii(name))
            self.assertEqual(self.client.check(name, "x" * 200, 90).reason, "over_limit", ascii(name))
        self.assertIsNone(self.client.check("").error)
        self.assertIsNone(self.client.check(123456789).error)

    def test_the_id_of_another_check_is_denied_whatever_the_fail_mode(self):
        client_id = new_client_id(10)
        self.client.check(client_id, request_id=client_id)
        with self.assertLogs("ratelimiter_client", "ERROR"):
            decisions = [self.client.check(client_id, cost=2, request_id=client_id)]
            decisions += self.client.check_many([(client_id, "global", 2, client_id)])
        for decision in decisions:
            self.assertIn("409", decision.error)
            self.assertFalse(decision.allowed)


class TestRequests(unittest.TestCase):
    """What goes over the wire."""

    def heard(self, call, **settings):
        with Broken(http("404 Not Found", b"{}")) as server, RateLimiter(server.url + "/limits/", **settings) as client:
            call(client)
            return server.heard[0].decode()

    def test_a_check_is_one_request(self):
        trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        heard = self.heard(
            lambda client: client.check("a", correlation_id="order-7", traceparent=trace),
            api_key="secret",
            timeout=PATIENT,
        )
        self.assertTrue(heard.startswith("POST /limits/v1/check HTTP/1.1\r\nHost: 127.0.0.1:"))
        for line in ("Authorization: Bearer secret", "X-Correlation-ID: order-7", "traceparent: " + trace):
            self.assertIn(f"\r\n{line}\r\n", heard)
        self.assertRegex(heard, r'"request_id":"[0-9a-f]{24}-0"')

    def test_headers_cannot_be_slipped_in(self):
        evil = "a\r\nX-Evil: 1"
        heard = self.heard(
            lambda client: client.check(evil, evil, correlation_id=evil, traceparent=evil), timeout=PATIENT
        )
        self.assertNotIn("Evil", heard)

    def test_a_number_is_its_digits(self):
        for number in (7, IntEnum("Kind", {"seven": 7}).seven):
            heard = self.heard(lambda client, number=number: client.check(number, number), timeout=PATIENT)
            self.assertIn('{"client_id":"7","limit_key":"7",', heard)

    def test_without_retry_no_ids(self):
        self.assertNotIn("request_id", self.heard(lambda client: client.check("a"), retry=False, timeout=PATIENT))

    def test_ids_are_no_others(self):
        with Broken(http("404 Not Found", b"{}")) as server:
            for _ in range(2):
                with RateLimiter(server.url, timeout=PATIENT) as client:
                    client.check("a")
                    client.check_many([("a",), ("b",)])
            found = [
                part[:40].split('"')[0] for heard in server.heard for part in heard.decode().split('"request_id":"')[1:]
            ]
        self.assertEqual((len(found), len(set(found))), (6, 6))


class TestArguments(unittest.TestCase):
    def test_wrong_ones_are_refused_at_once(self):
        for url in (
            "127.0.0.1:8000",
            "ftp://a",
            "http://",
            "http://a b",
            "http://a:b",
            "http://a:70000",
            "http://u:p@a",
            "http://a/?q",
            "http://a/#f",
            "http://a/\r\nX: 1",
            "http://" + "a" * 64,
            "http://[::1",
        ):
            with self.assertRaises(ValueError, msg=url):
                RateLimiter(url)
        for wrong in (
            {"timeout": 0},
            {"timeout": -1},
            {"timeout": 61},
            {"timeout": float("nan")},
            {"fail_mode": "local"},
            {"api_key": "a\r\nb"},
            {"api_key": ""},
            {"api_key": "é"},
            {"max_idle_connections": -1},
        ):
            with self.assertRaises(ValueError, msg=wrong):
                RateLimiter(URL, **wrong)
        for wrong in ({"timeout": "1"}, {"timeout": None}, {"max_idle_connections": "1"}, {"unknown": 1}):
            with self.assertRaisesRegex(TypeError, next(iter(wrong)), msg=wrong):
                RateLimiter(URL, **wrong)
        for no_certificates in ("/none", __file__):
            with self.assertRaisesRegex(ValueError, f"ca_file is '{no_certificates}'"):
                RateLimiter("https://127.0.0.1", ca_file=no_certificates)

    def test_leases_raise_whatever_the_fail_mode(self):
        with RateLimiter("http://127.0.0.1:1") as client:
            for call in (
                lambda: client.lease("a", "b", 1, 1),
                lambda: client.return_lease("a", 1),
            ):
                with self.assertRaises(RateLimiterError):
                    call()


if __name__ == "__main__":
    unittest.main()
