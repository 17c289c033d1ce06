"""Functions whose calls are checks."""

import asyncio
import contextvars
import inspect
import pickle
import unittest

from support import PATIENT, URL, Broken, new_client_id

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

    def test_arguments_by_their_names_and_the_cost_of_a_call(self):
        """U1-12."""
        prefix = new_client_id(5)

        @self.client.limit("export", identify=lambda who, *_: prefix + who, cost=lambda _, months: months)
        def export(user, months):
            return months

        self.assertEqual([export("a", 2), export("a", months=2), export(months=1, user="a")], [2, 2, 1])
        with self.assertRaises(RateLimited):
            export("a", months=1)
        self.assertEqual(export("b", 5), 5)

    def test_a_coroutine_function(self):
        """U1-7: the loop goes on while the service is asked."""

        @self.client.limit("mail", identify=new_client_id(1), on_denied=lambda decision: decision.reason)
        async def send(to):
            return to

        async def both():
            return [await send("a"), await send("b")]

        self.assertTrue(inspect.iscoroutinefunction(send))
        self.assertEqual(asyncio.run(both()), ["a", "over_limit"])

    def test_a_coroutine_function_knows_its_context(self):
        """As what `identify` and `cost` read, and requests of web frameworks."""
        who = contextvars.ContextVar("who")

        @self.client.limit("mail", identify=lambda _: who.get(), on_denied=lambda decision: decision.reason)
        async def send(to):
            return to

        async def both():
            who.set(new_client_id(1))
            return [await send("a"), await send("b")]

        self.assertEqual(asyncio.run(both()), ["a", "over_limit"])

    def test_the_loop_goes_on_while_the_service_hangs(self):
        """M8."""
        ticks = []

        async def tick(waiting):
            while not waiting.done():
                ticks.append(1)
                await asyncio.sleep(0)

        async def run(client):
            @client.limit("mail", identify="a")
            async def send():
                return len(ticks)

            waiting = asyncio.ensure_future(send())
            await tick(waiting)
            return waiting.result()

        with Broken() as hung, RateLimiter(hung.url, timeout=0.2) as client:
            self.assertGreater(asyncio.run(run(client)), 10)


if __name__ == "__main__":
    unittest.main()
