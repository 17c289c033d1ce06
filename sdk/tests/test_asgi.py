"""The ASGI middleware, with the real service behind it and a fake one."""

import asyncio
import json
import unittest

from support import PATIENT, URL, new_client_id

from ratelimiter_client import AsyncRateLimiter, RateLimiter, identify
from ratelimiter_client.asgi import RateLimitMiddleware
from ratelimiter_client.testing import AsyncFakeLimiter


async def hello(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"hello"})


class Request:
    """What an application is given of a request, and what it answers."""

    def __init__(self, app, path="/", method="GET", headers=(), client=("192.0.2.1", 5), **scope):
        self.sent = []
        self.scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [(name.encode(), value.encode()) for name, value in headers],
            "client": client,
            **scope,
        }
        self._app = app

    async def answer(self):
        async def receive():
            return {"type": "websocket.connect"}

        async def send(message):
            self.sent.append(message)

        await self._app(self.scope, receive, send)
        return self

    @property
    def status(self):
        return self.sent[0]["status"]

    @property
    def headers(self):
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}


class TestMiddleware(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        self.fake = AsyncFakeLimiter({"global": (2, 60)})

    async def statuses(self, app, number=3, **request):
        return [(await Request(app, **request).answer()).status for _ in range(number)]

    async def test_by_the_service(self):
        async with AsyncRateLimiter(URL, timeout=PATIENT) as client:
            app = RateLimitMiddleware(hello, client, identify=new_client_id(2))
            answers = [await Request(app, headers=[("x-correlation-id", "of-the-test")]).answer() for _ in range(3)]
        self.assertEqual([answer.status for answer in answers], [200, 200, 429])
        self.assertIn("r=1", answers[0].headers["ratelimit"])
        self.assertGreater(int(answers[2].headers["retry-after"]), 3500)
        problem = json.loads(answers[2].sent[1]["body"])
        self.assertEqual((problem["status"], problem["correlation_id"]), (429, "of-the-test"))
        self.assertEqual(answers[2].headers["content-type"], "application/problem+json")

    async def test_many_at_once_are_counted_exactly(self):
        async with AsyncRateLimiter(URL, timeout=PATIENT) as client:
            app = RateLimitMiddleware(hello, client, identify=new_client_id(10))
            answers = await asyncio.gather(*(Request(app).answer() for _ in range(30)))
        self.assertEqual(sorted(answer.status for answer in answers), [200] * 10 + [429] * 20)

    async def test_it_counts_by_address_behind_a_trusted_proxy(self):
        app = RateLimitMiddleware(hello, self.fake, trusted_proxies=["192.0.2.1"])
        hops = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-for", "198.51.100.7")]
        await Request(app, headers=hops).answer()
        await Request(app, client=None).answer()
        self.assertEqual([call.client_id for call in self.fake.calls], ["ip:198.51.100.7", "ip:unknown"])

    async def test_functions_see_the_request(self):
        app = RateLimitMiddleware(
            hello,
            self.fake,
            identify=lambda environ: environ["HTTP_X_USER"],
            limit_key=lambda environ: environ["PATH_INFO"],
            cost=lambda environ: int(environ["asgi.scope"]["query_string"] or b"1"),
        )
        headers = [("x_user", "spoofed"), ("x-user", "ann")]
        await Request(app, "/shop/tea", headers=headers, query_string=b"3", root_path="/shop").answer()
        self.assertEqual([tuple(call) for call in self.fake.calls], [("ann", "/tea", 3, True, ())])

    async def test_a_secret_that_comes_twice_is_none(self):
        app = RateLimitMiddleware(hello, self.fake, identify=identify.api_key())
        for name, known, other in (("x-api-key", "a", "b"), ("authorization", "Bearer a", "Bearer b")):
            await Request(app, headers=[(name, known), (name, other)]).answer()
        cookies = RateLimitMiddleware(hello, self.fake, identify=identify.cookie("s"))
        await Request(cookies, headers=[("cookie", "s=a"), ("cookie", "s=b")]).answer()
        self.assertEqual({call.client_id for call in self.fake.calls}, {"ip:192.0.2.1"})

    async def test_two_that_meet_one_counter_charge_it_once(self):
        app = RateLimitMiddleware(RateLimitMiddleware(hello, self.fake), self.fake)
        self.assertEqual(await self.statuses(app), [200, 200, 429])

    async def test_the_application_gets_the_decision_and_the_correlation_id(self):
        seen = []

        async def app(scope, receive, send):
            seen.append(scope)
            await hello(scope, receive, send)

        await Request(RateLimitMiddleware(app, self.fake)).answer()
        self.assertEqual(seen[0]["ratelimiter.decision"].remaining, 1)
        self.assertRegex(dict(seen[0]["headers"])[b"x-correlation-id"], rb"\A[0-9a-f-]{36}\Z")

    async def test_what_is_exempt_or_no_request_passes(self):
        app = RateLimitMiddleware(hello, self.fake, exempt=["/health", "/static/*"])
        self.assertEqual(await self.statuses(app, path="/health"), [200] * 3)
        self.assertEqual(await self.statuses(app, path="/static/a.css"), [200] * 3)
        started = []

        async def lifespan(scope, _receive, _send):
            started.append(scope["type"])

        await RateLimitMiddleware(lifespan, self.fake)({"type": "lifespan"}, None, None)
        self.assertEqual((started, self.fake.calls), (["lifespan"], []))

    async def test_a_websocket_is_denied_before_it_is_accepted(self):
        app = RateLimitMiddleware(hello, self.fake)
        for _ in range(2):
            accepted = await Request(app, type="websocket").answer()
            self.assertEqual(accepted.sent[0]["type"], "websocket.accept")
            self.assertIn("ratelimit", accepted.headers)
        closed = await Request(app, type="websocket").answer()
        self.assertEqual([message["type"] for message in closed.sent], ["websocket.close"])
        told = await Request(app, type="websocket", extensions={"websocket.http.response": {}}).answer()
        self.assertEqual((told.sent[0]["type"], told.status), ("websocket.http.response.start", 429))

    async def test_fail_modes(self):
        for fail_mode, expected in (("open", 200), ("closed", 503)):
            fake = AsyncFakeLimiter(fail_mode=fail_mode)
            fake.down()
            self.assertEqual(await self.statuses(RateLimitMiddleware(hello, fake)), [expected] * 3)

    async def test_the_answer_may_be_ones_own(self):
        async def page(scope, receive, send, decision):
            await send({"type": "http.response.start", "status": 429, "headers": []})
            await send({"type": "http.response.body", "body": str(decision.retry_after_ms).encode()})

        app = RateLimitMiddleware(hello, self.fake, on_denied=page)
        answers = [await Request(app).answer() for _ in range(3)]
        self.assertEqual([answer.sent[1]["body"] for answer in answers], [b"hello", b"hello", b"60000"])

    async def test_a_head_has_no_body(self):
        app = RateLimitMiddleware(hello, self.fake)
        answers = [await Request(app, method="HEAD").answer() for _ in range(3)]
        self.assertEqual((answers[2].status, answers[2].sent[1]["body"]), (429, b""))

    async def test_client_and_enabled_may_be_set_later(self):
        app = RateLimitMiddleware(hello, self.fake, enabled=False)
        self.assertEqual(await self.statuses(app), [200] * 3)
        app.enabled = True
        app.client = AsyncFakeLimiter({"global": (1, 60)})
        self.assertEqual(await self.statuses(app), [200, 429, 429])

    async def test_wrong_arguments_stop_the_start(self):
        with RateLimiter(URL) as blocking, self.assertRaisesRegex(TypeError, "client is .*AsyncRateLimiter"):
            RateLimitMiddleware(hello, blocking)
        with self.assertRaisesRegex(TypeError, "identify"):
            RateLimitMiddleware(hello, self.fake, identify=7)
        with self.assertRaisesRegex(TypeError, "^on_denied is .*, allowed is an async function of"):
            RateLimitMiddleware(hello, self.fake, on_denied=hello)


if __name__ == "__main__":
    unittest.main()
