"""The WSGI middleware on the real service, every request of it under wsgiref.validate."""

import io
import json
import sys
import unittest
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

from support import PATIENT, URL, new_client_id, new_network

from ratelimiter_client import RateLimiter, RateLimitMiddleware, identify, preflight

BODY = b"served"


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))])
    return [BODY] if environ["REQUEST_METHOD"] != "HEAD" else []


class Answer:
    """Of a request to a WSGI application; `environ` as the application saw it."""

    def __init__(self, app, path="/", method="GET", **variables):
        self.environ = {
            "PATH_INFO": path,
            "REQUEST_METHOD": method,
            "QUERY_STRING": "",
            "SCRIPT_NAME": "",
            "REMOTE_ADDR": "127.0.0.1",
        }
        setup_testing_defaults(self.environ)
        self.environ.update(variables, **{"wsgi.input": io.BytesIO()})
        iterable = validator(app)(self.environ, self._start)
        self.body = b"".join(iterable)
        iterable.close()

    def _start(self, status, headers, exc_info=None):
        self.status, self.headers = int(status[:3]), dict(headers)
        return lambda data: None


class TestMiddleware(unittest.TestCase):
    def setUp(self):
        self.client = RateLimiter(URL, timeout=PATIENT)
        self.addCleanup(self.client.close)

    def wrapped(self, app=application, **settings):
        return RateLimitMiddleware(app, self.client, **settings)

    def statuses(self, app, number, **variables):
        return [Answer(app, **variables).status for _ in range(number)]

    def test_an_admitted_request_reaches_the_application(self):
        answer = Answer(self.wrapped(identify=new_client_id()))
        self.assertEqual((answer.status, answer.body), (200, BODY))
        self.assertEqual(answer.headers["RateLimit-Policy"], '"default";q=100;w=60')
        self.assertRegex(answer.headers["RateLimit"], '^"default";r=99;t=[01]$')
        self.assertNotIn("Retry-After", answer.headers)
        self.assertEqual(answer.environ["ratelimiter.decision"].remaining, 99)

    def test_a_denied_one_is_told_when_to_come_back(self):
        app = self.wrapped(identify=new_client_id(1))
        self.assertEqual(self.statuses(app, 1), [200])
        answer = Answer(app, HTTP_X_CORRELATION_ID="order-7")
        problem = json.loads(answer.body)
        self.assertEqual((answer.status, problem["status"], problem["title"]), (429, 429, "Too Many Requests"))
        self.assertEqual(problem["correlation_id"], "order-7")
        self.assertEqual(answer.headers["X-Correlation-ID"], "order-7")
        self.assertEqual(answer.headers["Content-Type"], "application/problem+json")
        self.assertEqual(answer.headers["Content-Length"], str(len(answer.body)))
        self.assertIn("r=0", answer.headers["RateLimit"])
        wait = int(answer.headers["Retry-After"])
        self.assertTrue(3500 < wait <= 3600 and 0 <= wait * 1000 - problem["retry_after_ms"] < 1000, wait)
        head = Answer(app, method="HEAD")
        self.assertEqual((head.status, head.body), (429, b""))

    def test_where_waiting_does_not_help_there_is_no_retry_after(self):
        app = self.wrapped(identify=new_client_id(0))
        answer = Answer(app, HTTP_X_CORRELATION_ID="\r\nevil")
        self.assertEqual((answer.status, "Retry-After" in answer.headers), (429, False))
        self.assertRegex(json.loads(answer.body)["correlation_id"], "^[0-9a-f-]{36}$")

    def test_by_address_unless_told_otherwise(self):
        network = new_network()
        app = self.wrapped(trusted_proxies=["10.0.0.0/8"])
        self.assertEqual(self.statuses(app, 1, REMOTE_ADDR=str(network[1])), [200])
        seen = {"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": f"8.8.8.8, {network[2]}"}
        self.assertEqual(self.statuses(app, 2, **seen), [200, 429])

    def test_who_names_nobody_is_counted_by_address(self):
        network = new_network()
        app = self.wrapped(identify=identify.header("X-User"))
        peer = {"REMOTE_ADDR": str(network[1])}
        self.assertEqual(self.statuses(app, 3, **peer), [200, 200, 429])
        self.assertEqual(self.statuses(app, 1, **peer, HTTP_X_USER=new_client_id()), [200])

    def test_a_name_too_long_is_limited_like_any_other(self):
        app = self.wrapped(identify=identify.header("X-User"), cost=60)
        self.assertEqual(self.statuses(app, 2, HTTP_X_USER=new_client_id() * 50), [200, 429])

    def test_limit_key_and_cost_of_the_request(self):
        client_id = new_client_id("login")
        app = self.wrapped(
            identify=client_id,
            limit_key=lambda environ: environ["PATH_INFO"],
            cost=lambda environ: 2 if environ["REQUEST_METHOD"] == "POST" else 1,
        )
        self.assertEqual(self.statuses(app, 2, path="/login", method="POST"), [200, 429])
        self.assertEqual(self.statuses(app, 3, path="/other"), [200, 200, 200])

    def test_exempt_paths_are_not_counted(self):
        app = self.wrapped(identify=new_client_id(1), exempt=["/health", "/static/*"])
        self.assertEqual(self.statuses(app, 1), [200])
        for path in ("/health", "/static/", "/static/a/b.css"):
            self.assertEqual(self.statuses(app, 2, path=path), [200, 200], path)
        for path in ("/healthy", "/health/", "/staticx", "/static/../login", "/"):
            self.assertEqual(self.statuses(app, 1, path=path), [429], path)
        app = self.wrapped(identify=new_client_id(1), exempt=lambda environ: "HTTP_X_PROBE" in environ)
        self.assertEqual(self.statuses(app, 2, HTTP_X_PROBE="1") + self.statuses(app, 2), [200, 200, 200, 429])
        self.assertEqual(self.statuses(self.wrapped(identify=new_client_id(1), exempt="/a"), 2), [200, 429])

    def test_preflights_may_be_exempt(self):
        """F9: what browsers ask before a page may ask; together with paths."""
        app = self.wrapped(identify=new_client_id(1), exempt=["/health", preflight])
        asking = {"HTTP_ORIGIN": "https://a", "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "POST"}
        self.assertEqual(self.statuses(app, 3, method="OPTIONS", **asking), [200] * 3)
        self.assertEqual(self.statuses(app, 2, path="/health"), [200] * 2)
        self.assertEqual([Answer(app, method=method, **asking).status for method in ("POST", "POST")], [200, 429])
        self.assertEqual(self.statuses(app, 1, method="OPTIONS"), [429])
        for wrong, error in ((["health"], ValueError), ([5], TypeError), ([lambda one, two: True], TypeError)):
            with self.assertRaisesRegex(error, "^exempt is "):
                self.wrapped(exempt=wrong)

    def test_the_decision_names_its_limit(self):
        """U1-5: whether it admits or denies."""
        client_id, seen = new_client_id(1), []
        app = self.wrapped(
            limits=[(client_id, "a"), (new_client_id(10), "b")],
            on_denied=lambda environ, start_response, decision: (
                seen.append(decision) or application(environ, start_response)
            ),
        )
        answers = [Answer(app) for _ in range(2)]
        for answer in answers:
            decision = answer.environ["ratelimiter.decision"]
            self.assertEqual((decision.client_id, decision.limit_key, decision.remaining), (client_id, "a", 0))
        self.assertEqual(seen, [answers[1].environ["ratelimiter.decision"]])
        self.assertEqual([seen[0].breached, answers[0].environ["ratelimiter.decision"].breached], [True, False])

    def test_it_is_switched_off_and_its_client_replaced(self):
        """U1-6."""
        app = RateLimitMiddleware(application, None, identify=new_client_id(1), enabled=False)
        self.assertEqual(self.statuses(app, 3), [200] * 3)
        app.client, app.enabled = self.client, True
        self.assertEqual((self.statuses(app, 2), app.client, app.enabled), ([200, 429], self.client, True))

    def test_functions_are_given_the_environ_or_nothing(self):
        client_id = new_client_id("login")
        app = self.wrapped(identify=lambda: client_id, limit_key=lambda: "/login", cost=lambda: 2)
        self.assertEqual(self.statuses(app, 2), [200, 429])

    def test_all_of_several_limits_must_admit(self):
        narrow, wide = new_client_id(2), new_client_id(10)
        app = self.wrapped(limits=[(narrow, "a"), (identify.header("X-User"), "b")])
        answers = [Answer(app, HTTP_X_USER=wide) for _ in range(4)]
        self.assertEqual([answer.status for answer in answers], [200, 200, 429, 429])
        self.assertIn("r=1", answers[0].headers["RateLimit"])  # of the one with less left
        # Nothing is charged where one denies, wherever it stands.
        self.assertEqual((self.client.peek(narrow).remaining, self.client.peek(wide).remaining), (0, 8))
        app = self.wrapped(limits=[(wide, "a"), (narrow, "b")])
        self.assertEqual(self.statuses(app, 1), [429])
        self.assertEqual(self.client.peek(wide).remaining, 8)

    def test_the_same_limit_twice_is_charged_once(self):
        client_id = new_client_id(1)
        self.assertEqual(self.statuses(self.wrapped(limits=[(client_id, "a"), (client_id, "a")]), 2), [200, 429])

    def test_the_application_may_answer_denials_itself(self):
        def sorry(environ, start_response, decision):
            start_response("503 Service Unavailable", [("Content-Type", "text/html")])
            return [b"<p>%d" % decision.limit]

        app = self.wrapped(identify=new_client_id(1), on_denied=sorry)
        self.assertEqual(self.statuses(app, 1), [200])
        answer = Answer(app)
        self.assertEqual((answer.status, answer.body), (503, b"<p>1"))

    def test_an_application_that_starts_again_after_an_error(self):
        def failing(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            try:
                raise KeyError
            except KeyError:
                start_response("500 Internal Server Error", [("Content-Type", "text/plain")], sys.exc_info())
            return [b"sorry"]

        answer = Answer(self.wrapped(failing, identify=new_client_id()))
        self.assertEqual((answer.status, answer.body, "RateLimit" in answer.headers), (500, b"sorry", True))


if __name__ == "__main__":
    unittest.main()
