"""What would only fail with each request, and so be hidden by the fail mode, is refused when it is written down."""

import unittest

from support import URL

from ratelimiter_client import AsyncRateLimiter, LeasedLimiter, RateLimiter, RateLimitMiddleware, identify
from ratelimiter_client.testing import FakeLimiter


def application(environ, start_response):
    raise AssertionError


async def awaited(*_):
    """What nobody would await where it stands."""


class TestArguments(unittest.TestCase):
    def setUp(self):
        self.client = RateLimiter(URL)
        self.addCleanup(self.client.close)

    def refused(self, error, text, make, *arguments, **named):
        with self.subTest(**named), self.assertRaisesRegex(error, text):
            make(*arguments, **named)

    def test_of_the_middleware(self):
        for error, name, wrong in (
            (TypeError, "cost", ("2", None, 1.0, True)),
            (ValueError, "cost", (-1, 10**9 + 1)),
            (ValueError, "limits", ([], (), ["login"], [("a", "b", "c")], "ab", [5], ["ab"])),
            (TypeError, "identify", (5, ["a"])),
            (TypeError, "limit_key", (5, None)),
            (ValueError, "limit_key", ("5/minute",)),
            (TypeError, "on_denied", (1, "sorry", lambda environ: [], awaited)),
        ):
            for value in wrong:
                text = f"^{name} is .*, allowed "
                self.refused(error, text, RateLimitMiddleware, application, self.client, **{name: value})
        self.refused(TypeError, "^client is 'http://a', allowed ", RateLimitMiddleware, application, "http://a")

    def test_functions_are_looked_at_too(self):
        """U1-3."""

        async def later(environ):
            return "a"

        for name in ("identify", "limit_key", "cost", "exempt"):
            for wrong in (lambda one, two: "a", later):
                text = f"^{name} is .*, allowed "
                self.refused(TypeError, text, RateLimitMiddleware, application, self.client, **{name: wrong})
        for wrong in (lambda one, two: "a", lambda environ, *, needed: "a"):
            self.refused(TypeError, "identify is", RateLimitMiddleware, application, self.client, limits=[(wrong, "a")])

    def test_those_of_calls_are_held_against_the_function(self):
        """U1-12."""

        def export(user, month, *, kind=""):
            return user

        async def later(user, month):
            return "a"

        for name in ("identify", "cost"):
            for wrong in (lambda: "a", lambda user: "a", lambda user, month, more: "a", later):
                limit = self.client.limit("export", **{"identify": "a", name: wrong})
                self.refused(TypeError, f"^{name} is .*, allowed is a function", limit, export)
        for right in (lambda user, month: user, lambda user, *_: user, lambda *_, **__: "a", lambda u, m, kind: u):
            self.client.limit("export", identify=right)(export)
        for wrong in (5, None, b"a"):
            self.refused(TypeError, "^identify is", self.client.limit, "export", identify=wrong)
        self.refused(ValueError, "^cost is -1", self.client.limit, "export", identify="a", cost=-1)
        for wrong in (5, lambda: None):
            self.refused(TypeError, "^on_denied is ", self.client.limit, "export", identify="a", on_denied=wrong)

    def test_an_address_with_a_password_is_refused_and_not_told(self):
        for url in ("http://user:s3cret@limiter:8000", "user:s3cret@limiter"):
            with self.subTest(url), self.assertRaisesRegex(ValueError, "^url is '\\*\\*\\*@limiter") as refused:
                RateLimiter(url)
            self.assertNotIn("s3cret", str(refused.exception))

    def test_of_each_of_several_limits(self):
        for pair, text in (((5, "login"), "identify is 5"), (("a", 5), "limit_key is 5"), (("a", "5/day"), "5/day")):
            self.refused(Exception, text, RateLimitMiddleware, application, self.client, limits=[pair])

    def test_those_that_are_right(self):
        for right in (
            {"cost": 0},
            {"cost": lambda environ: 2},
            {"limits": [(None, "a"), ["b", lambda environ: "c"]]},
            {"limits": {"a": "b"}.items()},
            {"on_denied": lambda environ, start_response, decision: []},
        ):
            with self.subTest(**right):
                RateLimitMiddleware(application, self.client, **right)
                RateLimitMiddleware(application, LeasedLimiter(self.client), **right)

    def test_a_rate_is_no_name_of_a_limit(self):
        for rate in (
            "5/minute",
            "100 per day",
            "10 per 2 hours",
            "1/second;9/hour",
            " 7 PER Month",
            "5/min",
            "3 / sec",
        ):
            self.refused(ValueError, "allowed is a limit's name", self.client.limit, rate, identify="a")
        for name in ("login", "/5/minute", "5", "5/login", "5 persons/day", "v1/hours"):
            with self.subTest(name):
                self.client.limit(name, identify="a")

    def test_each_error_names_its_argument(self):
        def middleware(**named):
            return RateLimitMiddleware(application, self.client, **named)

        for make, name, wrong in (
            (
                RateLimiter,
                "url",
                (None, 5, b"http://a", "a", "ftp://a", "http://a:99999", "http://a:0", "http://" + "a" * 64),
            ),
            (AsyncRateLimiter, "url", (None, "a")),
            (self.made, "api_key", (5, b"a", "", "a b")),
            (self.made, "timeout", ("1", None, True, 0, -1, 61, float("nan"))),
            (self.made, "fail_mode", ("opne", None, ["open"])),
            (self.made, "retry", ("no", 1, None)),
            (self.made, "ca_file", (5, "/nowhere/ca.pem")),
            (self.made, "max_idle_connections", (1.5, "1", True, -1)),
            (self.made, "on_undecided", (5, "log", lambda: None, awaited)),
            (middleware, "trusted_proxies", (5, [5], ["nginx"], "10.0.0.1/33")),
            (middleware, "exempt", (5, [5], ["health"])),
            (middleware, "limits", (5, [])),
            (middleware, "enabled", ("no", 0)),
            (identify.header, "name", (5, "")),
            (identify.cookie, "name", (None, "")),
            (identify.address, "trusted", (["a"], 5)),
            (self.leased, "clock", (5,)),
            (self.leased, "size", ("a", 0, 1.5)),
            (FakeLimiter, "limits", (5, [("login", (5, 60))])),
            (FakeLimiter().advance, "seconds", (-1, "1")),
            (FakeLimiter().deny, "limit_key", (5, "5/minute")),
            (self.client.check_many, "checks", (5, [5], [("a", "b", 1, 2, 3, 4)], [{"x": 1}])),
        ):
            for value in wrong:
                with self.subTest(name=name, value=value), self.assertRaises((TypeError, ValueError)) as refused:
                    if name in ("url", "name", "trusted", "seconds", "limit_key", "checks"):
                        make(value)
                    else:
                        make(**{name: value})
                self.assertRegex(str(refused.exception), rf"\b{name}.* allowed |{name} has ")

    def made(self, **named):
        return RateLimiter("https://127.0.0.1:1", **named)

    def leased(self, **named):
        return LeasedLimiter(self.client, **named)

    def test_a_client_for_asyncio_is_none_for_wsgi(self):
        """Its answer would be a coroutine, which is true."""
        text = "client is .*AsyncRateLimiter.*allowed is a RateLimiter"
        self.refused(TypeError, text, RateLimitMiddleware, application, AsyncRateLimiter("http://127.0.0.1:1"))
        app = RateLimitMiddleware(application, self.client)
        with self.assertRaisesRegex(TypeError, "client is None"):
            app.client = None

    def test_a_decorator_without_its_brackets(self):
        self.refused(TypeError, r"allowed is a limit's name", self.client.limit, application, identify="a")


if __name__ == "__main__":
    unittest.main()
