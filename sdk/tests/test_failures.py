"""Whatever the service does, a call ends in its time, with the answer of the fail mode, and nothing is raised unasked.

No test here looks at a clock: who waits for these servers without a deadline waits for ever.
"""

import json
import socket
import unittest
from unittest.mock import patch
from wsgiref.util import setup_testing_defaults

from support import PATIENT, Broken, http

from ratelimiter_client import RateLimiter, RateLimiterError, RateLimitMiddleware

DECISION = {
    "allowed": True, "remaining": 1, "retry_after_ms": 0, "limit": 1, "window": 1, "reset_at": 1.5,
    "algorithm": None, "rule_id": 1, "reason": "within_limit", "degraded": False,
}  # fmt: skip
OK = "200 OK"
BODY = json.dumps(DECISION).encode()

HELD = {
    "hung": Broken(),
    "a byte at a time": Broken(http(OK, b"")[:20], b"x"),
    "a body a byte at a time": Broken(http(OK, b"x" * 9000)[:-9000], b"x"),
    "headers without end, slowly": Broken(b"HTTP/1.1 200 OK\r\n", b"X-Header: 1\r\n"),
    "interim answers for ever": Broken(rest=b"HTTP/1.1 100 Continue\r\n\r\n"),
}
WRONG = {
    "headers without end": Broken(b"HTTP/1.1 200 OK\r\n", b"X-Header: 1\r\n" * 1000, pause=0),
    "a body without end": Broken(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n", b"x" * 65536, pause=0),
    "closes": Broken(closes=True),
    "closes in the head": Broken(http(OK, BODY)[:30], closes=True),
    "closes in the body": Broken(http(OK, BODY)[:-1], closes=True),
    "no HTTP": Broken(bytes(range(256)) + b"\r\n\r\n", closes=True),
    "HTTP/0.9": Broken(BODY, closes=True),
    "no status": Broken(b"HTTP/1.1 OK\r\n\r\n", closes=True),
    "no length": Broken(b"HTTP/1.1 200 OK\r\n\r\n" + BODY, closes=True),
    "a length below zero": Broken(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n" + BODY, closes=True),
    "two lengths": Broken(http(OK, BODY, "Content-Length: 1"), closes=True),
    "chunks": Broken(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", closes=True),
    "no JSON": Broken(http(OK, b"<html>")),
    "no UTF-8": Broken(http(OK, b'"\xff"')),
    "deep JSON": Broken(http(OK, b"[" * 16000)),
    "long number": Broken(http(OK, b"9" * 16000)),
    "a list": Broken(http(OK, b"[]")),
    "no object": Broken(http(OK, b"null")),
    "an empty object": Broken(http(OK, b"{}")),
    "no truth value": Broken(http(OK, json.dumps({**DECISION, "allowed": 1}).encode())),
    "text for a number": Broken(http(OK, json.dumps({**DECISION, "remaining": "1"}).encode())),
    "an empty answer": Broken(http(OK, b"")),
    "results for others": Broken(http(OK, json.dumps({"results": [DECISION] * 3}).encode())),
    "results that are none": Broken(http(OK, b'{"results":[1,2]}')),
    "500": Broken(http("500 Internal Server Error", b"<html>oops")),
    "502": Broken(http("502 Bad Gateway", b"")),
}  # fmt: skip
REFUSALS = {
    "401": Broken(http("401 Unauthorized", b'{"detail":"unknown key"}')),
    "404": Broken(http("404 Not Found", b"[" * 9000)),
    "429": Broken(http("429 Too Many Requests", b'"detail"', "Retry-After: 7")),
    "302": Broken(http("302 Found", b"", "Location: http://127.0.0.1/")),
    "204": Broken(http("204 No Content", b"")),
    "503": Broken(http("503 Service Unavailable", b'{"detail":"Redis"}', "Retry-After: 9")),
}


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"served"]


def environment():
    environ = {}
    setup_testing_defaults(environ)
    return environ


def request(app):
    started = []
    body = b"".join(app(environment(), lambda status, headers, *_: started.extend((status, dict(headers)))))
    return started[0], started[1], body


class TestFailures(unittest.TestCase):
    def each(self, test):
        """`test(url, timeout)` of every server."""
        for servers in (HELD, WRONG, REFUSALS):
            for name, server in servers.items():
                with self.subTest(name), server:
                    # A busy machine may need long for what is no matter of time.
                    test(server.url, 0.05 if servers is HELD else PATIENT)
                    self.assertTrue(server.heard or servers is HELD)

    def test_the_fail_mode_answers(self):
        def test(url, timeout):
            for fail_mode in ("open", "closed"):
                with RateLimiter(url, timeout=timeout, fail_mode=fail_mode) as client:
                    decisions = [client.check("a"), client.peek("a"), *client.check_many([("a",), ("b",)])]
                for decision in decisions:
                    self.assertEqual(decision.allowed, fail_mode == "open")
                    self.assertTrue(decision.degraded and decision.error)
                    self.assertEqual((decision.reason, decision.remaining), ("degraded", 0))
                    self.assertEqual(decision.retry_after_ms > 0, fail_mode == "closed")

        self.each(test)

    def test_it_is_raised_where_that_was_asked_for(self):
        def test(url, timeout):
            with RateLimiter(url, timeout=timeout, fail_mode="raise") as client:
                with self.assertRaises(RateLimiterError):
                    client.check("a")
                with self.assertRaises(RateLimiterError):
                    client.check_many([("a",), ("b",)])
                with self.assertRaises(RateLimiterError):
                    client.lease("a", "b", 1, 1)
                with self.assertRaises(RateLimiterError):
                    client.return_lease("a", 1)

        self.each(test)

    def test_the_application_goes_on(self):
        def test(url, timeout):
            for fail_mode, status in (("open", "200 OK"), ("closed", "503 Service Unavailable")):
                with RateLimiter(url, timeout=timeout, fail_mode=fail_mode) as client:
                    app = RateLimitMiddleware(application, client)
                    for _ in range(3):
                        answered, headers, _ = request(app)
                        self.assertEqual(answered, status)
                        self.assertEqual("Retry-After" in headers, fail_mode == "closed")

        self.each(test)

    def test_nobody_listens(self):
        with RateLimiter("http://127.0.0.1:1", timeout=PATIENT) as client:
            self.assertIn("refused", client.check("a").error)
        unknown = patch("socket.getaddrinfo", side_effect=socket.gaierror("unknown name"))
        with unknown, RateLimiter("http://limiter.internal", timeout=PATIENT) as client:
            self.assertIn("unknown name", client.check("a").error)

    def test_a_refusal_says_why_and_is_logged_once(self):
        with REFUSALS["401"] as server, RateLimiter(server.url, timeout=PATIENT) as client:
            with self.assertLogs("ratelimiter_client") as logged:
                errors = {client.check("a").error for _ in range(10)}
            self.assertEqual(errors, {"the service answered 401: 'unknown key'"})
            self.assertEqual(len(logged.records), 1)

    def test_the_service_says_when_to_come_back(self):
        with REFUSALS["503"] as server, RateLimiter(server.url, timeout=PATIENT, fail_mode="closed") as client:
            self.assertEqual(client.check("a").retry_after_ms, 9000)

    def test_a_gateway_may_have_the_names_of_headers_in_small_letters(self):
        refused = Broken(http("503 Service Unavailable", b"", "retry-after: 9"))
        with refused, RateLimiter(refused.url, timeout=PATIENT, fail_mode="closed") as client:
            self.assertEqual(client.check("a").retry_after_ms, 9000)
        body = json.dumps({**DECISION, "allowed": False, "retry_after_ms": 2500}).encode()
        denied = Broken(http(OK, body, "ratelimit: a", "ratelimit-policy: b", "x-ratelimit-limit: c", "retry-after: 3"))
        with denied, RateLimiter(denied.url, timeout=PATIENT) as client:
            seen = []
            app = RateLimitMiddleware(application, client)
            app(environment(), lambda status, headers: seen.extend(headers))
        self.assertEqual([value for name, value in seen if name.lower() == "retry-after"], ["3"])
        self.assertEqual([value for name, value in seen if "ratelimit" in name], ["a", "b", "c"])

    def test_a_long_wait_is_told_to_the_millisecond(self):
        body = json.dumps({**DECISION, "allowed": False, "retry_after_ms": 2_592_000_123}).encode()
        with Broken(http(OK, body)) as server, RateLimiter(server.url, timeout=PATIENT) as client:
            _, headers, answered = request(RateLimitMiddleware(application, client))
        self.assertEqual(json.loads(answered)["detail"], "ask again in 2592000.123 seconds")
        self.assertEqual(headers["Retry-After"], "2592001")

    def test_what_is_no_name_of_a_header_is_not_handed_on(self):
        names = ("ratelimit-", "x-ratelimit-", "ratelimit--a", "ratelimits", "RateLimit_", "my-ratelimit", "RateLimit ")
        named = Broken(http(OK, BODY, *(f"{name}: 1" for name in names), "RateLimit: 2"))
        with named, RateLimiter(named.url, timeout=PATIENT) as client:
            self.assertEqual(client.check("a").headers, (("RateLimit", "2"),))

    def test_a_service_that_refuses_is_asked_again_and_one_that_fails_is_left_alone(self):
        for server, asked in ((REFUSALS["503"], 9), (REFUSALS["401"], 9), (WRONG["500"], 5), (WRONG["no JSON"], 5)):
            with server, RateLimiter(server.url, timeout=PATIENT) as client:
                errors = [client.check("a").error for _ in range(9)]
            self.assertEqual((len(server.heard), all(errors)), (asked, True))


if __name__ == "__main__":
    unittest.main()
