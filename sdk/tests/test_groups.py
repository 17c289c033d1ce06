"""Groups of a client, and several limits of a request that are charged together."""

import asyncio
import hashlib
import json
import unittest

from support import PATIENT
from test_middleware import Answer, application

from ratelimiter_client import (
    AsyncRateLimiter,
    Check,
    LeasedLimiter,
    RateLimiter,
    RateLimiterError,
    RateLimitMiddleware,
)
from ratelimiter_client.asgi import RateLimitMiddleware as AsgiMiddleware
from ratelimiter_client.testing import AsyncFakeLimiter, FakeLimiter
from ratelimiter_client.web.gate import Gate, Limit

GONE = "http://127.0.0.1:1"
ASKED = (("ann", "a"), ("ann", "b"), ("10.0.0.1", "c"))


def sent_by(fake):
    """The bodies of all requests from now on."""
    seen, answer = [], fake.service.answer

    def listening(request, timeout):
        seen.append(json.loads(request.partition(b"\r\n\r\n")[2]))
        return answer(request, timeout)

    fake.service.answer = listening
    return seen


class TestGroups(unittest.TestCase):
    def test_they_are_sent_each_once_in_their_order(self):
        fake = FakeLimiter()
        seen = sent_by(fake)
        for given, sent in (
            ((), None),
            ([], None),
            (None, None),
            (["org:7", "plan:free"], ["org:7", "plan:free"]),
            (("b", "a", "b"), ["b", "a"]),
            ([7, "7"], ["7"]),
            (["a\n", ""], fingerprints("a\n", "")),
            (["x" * 129], fingerprints("x" * 129)),
        ):
            for ask in (fake.check, fake.peek):
                self.assertTrue(ask("ann", "login", groups=given).allowed)
                self.assertEqual(seen[-1].get("groups"), sent)
            self.assertEqual(fake.calls[-1].groups, tuple(sent or ()))
        fake.check_many([("ann", "a", 1, None, ["org:7"]), {"client_id": "ann", "groups": ("b",)}, Check("ann")])
        self.assertEqual([check.get("groups") for check in seen[-1]["checks"]], [["org:7"], ["b"], None])
        fake.lease("ann", "a", 5, 1, groups=["org:7"])
        self.assertEqual(seen[-1]["groups"], ["org:7"])
        fake.wait("ann", "a", at_most=1, groups=["org:7"])
        self.assertEqual(fake.calls[-1].groups, ("org:7",))

    def test_what_is_no_list_of_names_raises(self):
        fake = FakeLimiter()
        for wrong in ("org:7", {"org:7"}, {"org:7": 1}, 7, True, iter(["a"]), [None], [b"a"], [1.5], [True], [["a"]]):
            for ask in (
                lambda groups: fake.check("ann", groups=groups),
                lambda groups: fake.check_many([Check("ann", groups=groups)]),
                lambda groups: fake.check_together([Check("ann", groups=groups)]),
                lambda groups: fake.lease("ann", "a", 1, 1, groups=groups),
                lambda groups: LeasedLimiter(fake).check("ann", groups=groups),
                lambda groups: RateLimitMiddleware(application, fake, groups=groups),
                lambda groups: Gate(fake, "ann", groups=lambda: groups).decide({}),
                lambda groups: fake.limit("a", identify="ann", groups=groups),
            ):
                with self.subTest(wrong=wrong), self.assertRaisesRegex(TypeError, "^groups is .*, allowed is "):
                    ask(wrong)
        self.assertEqual(fake.calls, [])

    def test_more_than_eight_are_denied_whatever_the_fail_mode(self):
        fake = FakeLimiter(fail_mode="open")
        many = [str(number) for number in range(9)]
        for decision in (
            fake.check("ann", groups=many),
            *fake.check_many([Check("ann", groups=many)]),
            fake.lease("ann", "a", 1, 1, groups=many).decision,
            Gate(fake, "ann", groups=many).decide({}),
        ):
            self.assertEqual((decision.allowed, decision.reason, decision.error), (False, "groups_out_of_range", None))
        self.assertEqual(fake.calls, [])
        self.assertTrue(fake.check("ann", groups=[*many[:8], "0"]).allowed)

    def test_a_decorator_takes_them_or_a_function(self):
        fake = FakeLimiter()

        @fake.limit("export", identify="ann", groups=["org:7"])
        def export():
            return "done"

        @fake.limit("export", identify=lambda user, org: user, groups=lambda user, org: [f"org:{org}"])
        def of_org(user, org):
            return "done"

        export()
        of_org("ann", org=8)
        self.assertEqual([call.groups for call in fake.calls], [("org:7",), ("org:8",)])

    def test_gates_take_them_or_a_function(self):
        fake = FakeLimiter()

        def of_header(environ):
            return [f"org:{environ['HTTP_X_ORG']}"] if "HTTP_X_ORG" in environ else None

        gate = Gate(fake, "ann", groups=of_header)
        for environ in ({"HTTP_X_ORG": "7"}, {}):
            gate.decide(environ)
        gate.decide({"HTTP_X_ORG": "7"}, [Limit(None, "a", groups=["plan:free"]), Limit(None, "b")])
        told = [call.groups for call in fake.calls]
        self.assertEqual(told, [("org:7",), (), ("plan:free",), ("org:7",)])

    def test_a_middleware_of_either_kind_hands_them_on(self):
        fake, awaited = FakeLimiter(), AsyncFakeLimiter()
        Answer(RateLimitMiddleware(application, fake, groups=["org:7"]))

        async def serve(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})

        async def drop(_message):
            pass

        scope = {"type": "http", "path": "/", "headers": [(b"x-org", b"8")]}
        app = AsgiMiddleware(serve, awaited, groups=lambda environ: [environ["HTTP_X_ORG"]])
        asyncio.run(app(scope, drop, drop))
        self.assertEqual([call.groups for call in (*fake.calls, *awaited.calls)], [("org:7",), ("8",)])

    def test_a_limiter_that_knows_no_groups_is_asked_as_before(self):
        fake = FakeLimiter()

        class Own:
            def check(self, client_id, limit_key, cost, *, correlation_id, traceparent):
                return fake.check(client_id, limit_key, cost)

        self.assertTrue(Gate(Own(), "ann").decide({}).allowed)
        self.assertTrue(Gate(Own(), limits=ASKED).decide({}).allowed)


class TestLeases(unittest.TestCase):
    def test_permits_are_of_one_client_key_and_groups(self):
        fake = FakeLimiter(default=(1000, 60))
        limiter = LeasedLimiter(fake, 50, 60, clock=lambda: 0.0)
        self.addCleanup(limiter.close)
        for groups in (("org:7",), ["org:7"], ("org:8",), ()):
            for _ in range(12):
                self.assertTrue(limiter.check("ann", "a", groups=groups).allowed)
        held = {key: permits.left for key, permits in limiter._in_use.items()}
        self.assertEqual(set(held), {("ann", "a", ("org:7",)), ("ann", "a", ("org:8",)), ("ann", "a")})
        leases = [call for call in fake.calls if call.cost > 1]
        self.assertEqual({call.groups for call in leases}, {("org:7",), ("org:8",), ()})
        asked = len(fake.calls)
        with self.assertRaises(TypeError):
            limiter.check("ann", "a", groups="org:7")
        limiter.check("ann", "a", groups=[7])  # a permit is never found under another name
        self.assertEqual(len(fake.calls), asked + 1)


class TestTogether(unittest.TestCase):
    def test_all_are_charged_or_none_is(self):
        fake = FakeLimiter({"a": (3, 60), "b": (2, 60), "c": (9, 60)})
        self.assertEqual([one.allowed for one in fake.check_together(ASKED)], [True] * 3)
        self.assertEqual([one.allowed for one in fake.check_together(ASKED)], [True] * 3)
        denied = fake.check_together(ASKED)
        self.assertEqual([(one.allowed, one.remaining) for one in denied], [(True, 1), (False, 0), (True, 7)])
        self.assertIn("Retry-After", dict(denied[1].headers))
        self.assertEqual(fake.peek("ann", "a").remaining, 1)

    def test_one_counter_is_charged_by_the_greatest_cost(self):
        fake = FakeLimiter({"a": (5, 60)})
        decisions = fake.check_together([("ann", "a", 2), ("ann", "a", 4), ("ann", "a", 0), ("ann", "a", 3)])
        self.assertEqual([(one.allowed, one.remaining) for one in decisions], [(True, 1)] * 4)

    def test_an_id_is_charged_once(self):
        fake = FakeLimiter({"a": (5, 60)})
        for _ in range(2):
            fake.check_together([("ann", "a", 2, "one"), ("ann", "a", 3, "two")])
        self.assertEqual(fake.peek("ann", "a").remaining, 2)

    def test_one_that_cannot_be_sent_keeps_all_back(self):
        fake = FakeLimiter()
        decisions = fake.check_together([("ann", "a"), ("ann", "b", -1)])
        self.assertEqual([one.reason for one in decisions], ["not_asked", "cost_out_of_range"])
        self.assertEqual((fake.check_together([]), fake.calls), ([], []))
        with self.assertRaisesRegex(ValueError, "^checks is 1001 .*allowed together is 1000"):
            fake.check_together([("ann", "a")] * 1001)

    def test_the_fail_mode_decides_each(self):
        for fail_mode, allowed in (("open", True), ("closed", False)):
            with RateLimiter(GONE, timeout=PATIENT, fail_mode=fail_mode) as gone:
                decisions = gone.check_together(ASKED)
                self.assertEqual([(one.allowed, bool(one.error)) for one in decisions], [(allowed, True)] * 3)
                self.assertEqual((gone.health().undecided, gone.health().calls), (3, 3))
        with RateLimiter(GONE, fail_mode="raise") as gone, self.assertRaises(RateLimiterError):
            gone.check_together(ASKED)

    def test_headers_of_a_batch_are_those_of_limits_in_visible_ascii(self):
        fake = FakeLimiter()
        fake.service._results = lambda checks, **_: [
            {**fake.service._looked(check), "headers": headers}
            for check, headers in zip(checks, ({"RateLimit": "a", "Set-Cookie": "b", "RateLimit-Policy": "c\r\nd"}, 7))
        ]
        decisions = fake.check_together(ASKED[:2])
        self.assertEqual([one.headers for one in decisions], [(("RateLimit", "a"),), ()])


class TestGates(unittest.TestCase):
    def test_three_limits_of_a_request_are_one_question(self):
        fake = FakeLimiter({"a": (5, 60), "b": (1, 60), "c": (9, 60)})
        seen = sent_by(fake)
        app = RateLimitMiddleware(application, fake, limits=ASKED, groups=["org:7"])
        answers = [Answer(app) for _ in range(2)]
        self.assertEqual([answer.status for answer in answers], [200, 429])
        self.assertIn("Retry-After", answers[1].headers)
        self.assertIn("r=0", answers[0].headers["RateLimit"])  # of "b", which has the least left
        self.assertEqual([len(body["checks"]) for body in seen], [3, 3])
        self.assertEqual({check["groups"][0] for body in seen for check in body["checks"]}, {"org:7"})
        self.assertEqual([fake.peek("ann", "a").remaining, fake.peek("10.0.0.1", "c").remaining], [4, 8])

    def test_of_asgi_too(self):
        fake = AsyncFakeLimiter({"b": (1, 60)})
        seen, statuses = sent_by(fake), []

        async def serve(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})

        async def send(message):
            statuses.append(message.get("status"))

        app = AsgiMiddleware(serve, fake, limits=ASKED)
        for _ in range(2):
            asyncio.run(app({"type": "http", "path": "/", "headers": []}, send, send))
        self.assertEqual([status for status in statuses if status], [200, 429])
        self.assertEqual([len(body["checks"]) for body in seen], [3, 3])

    def test_the_denial_is_the_one_of_its_limit(self):
        fake = FakeLimiter({"b": (0, 60)})
        environ = {}
        decision = Gate(fake, "ann").decide(environ, [Limit(None, "a"), Limit(None, "b"), Limit(None, "c", 10**9)])
        self.assertEqual((decision.allowed, decision.limit_key, decision.client_id), (False, "b", "ann"))
        self.assertEqual(environ["ratelimiter.decision"], decision)
        decision = Gate(fake, "ann").decide({}, [Limit(None, "a"), Limit(None, "c", -1)])
        self.assertEqual((decision.limit_key, decision.reason), ("c", "cost_out_of_range"))

    def test_a_request_that_was_charged_is_asked_in_turn(self):
        fake = FakeLimiter({"a": (5, 60), "b": (5, 60)})
        gate, environ = Gate(fake, "ann"), {}
        gate.decide(environ, [Limit(None, "a", 2), Limit(None, "b", 2)])
        gate.decide(environ, [Limit(None, "a", 3), Limit(None, "b", 1)])
        self.assertEqual([fake.peek("ann", key).remaining for key in "ab"], [2, 3])

    def test_a_limit_that_is_held_is_asked_in_turn(self):
        fake = FakeLimiter({"a": (5, 60), "b": (5, 60)})
        environ = {}
        Gate(fake, "ann").decide(environ, [Limit(None, "a"), Limit(None, "b", 1, lambda answer: answer == "failed")])
        environ["ratelimiter.charges"].settle("ok")
        self.assertEqual([fake.peek("ann", key).remaining for key in "ab"], [4, 5])


class TestAsync(unittest.TestCase):
    def test_together_and_groups(self):
        fake = AsyncFakeLimiter({"a": (1, 60)})

        async def ask():
            first = await fake.check_together([("ann", "a"), ("ann", "b")])
            second = await fake.check_together([("ann", "a"), ("ann", "b")])
            await fake.check("ann", "c", groups=["org:7"])
            return [[one.allowed for one in many] for many in (first, second)]

        self.assertEqual(asyncio.run(ask()), [[True, True], [False, True]])
        self.assertEqual(fake.calls[-1].groups, ("org:7",))

    def test_the_fail_mode_decides_each(self):
        async def ask():
            async with AsyncRateLimiter(GONE, timeout=PATIENT) as gone:
                return await gone.check_together(ASKED)

        self.assertEqual([bool(one.error and one.allowed) for one in asyncio.run(ask())], [True] * 3)


def fingerprints(*names):
    return ["sha256:" + hashlib.sha256(name.encode()).hexdigest() for name in names]


if __name__ == "__main__":
    unittest.main()
