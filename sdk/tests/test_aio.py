"""AsyncRateLimiter: the same answers, deadline, breaker and second attempt as RateLimiter's, for tasks."""

import asyncio
import os
import socket
import threading
import time
import unittest
from unittest.mock import patch

from support import PATIENT, URL, Broken, Relay, http, new_client_id
from test_failures import BODY, HELD, OK, REFUSALS, WRONG

from ratelimiter_client import AsyncRateLimiter, RateLimited, RateLimiterError
from ratelimiter_client.aio.deadlines import Deadlines


class TestAnswers(unittest.IsolatedAsyncioTestCase):
    async def test_a_check_is_charged_and_a_peek_is_not(self):
        async with AsyncRateLimiter(URL, timeout=PATIENT) as client:
            client_id = new_client_id(5)
            decision = await client.check(client_id, "login", 3)
            self.assertEqual((decision.allowed, decision.remaining, decision.error), (True, 2, None))
            self.assertEqual([name for name, _ in decision.headers], ["RateLimit-Policy", "RateLimit"])
            self.assertFalse((await client.check(client_id, "login", 3)).allowed)
            self.assertEqual((await client.peek(client_id, "login")).remaining, 2)

    async def test_many_and_leases(self):
        async with AsyncRateLimiter(URL, timeout=PATIENT) as client:
            client_id = new_client_id(5)
            decisions = await client.check_many([(client_id,), (client_id, "global", 9), (client_id,)])
            self.assertEqual([decision.allowed for decision in decisions], [True, False, True])
            lease = await client.lease(client_id, "global", 9, 60)
            self.assertEqual(lease.granted, 3)
            self.assertEqual(await client.return_lease(lease.lease_id, 2), 2)
            with self.assertRaises(RateLimiterError):
                await client.return_lease("unknown", 1)

    async def test_waiting(self):
        async with AsyncRateLimiter(URL, timeout=PATIENT) as client:
            client_id = new_client_id(1)
            self.assertTrue((await client.wait(client_id, at_most=0)).allowed)
            self.assertFalse((await client.wait(client_id, at_most=5)).allowed)  # an hour
            with self.assertRaisesRegex(ValueError, "^at_most is "):
                await client.wait(client_id, at_most=-1)

    async def test_a_decorator_of_async_functions(self):
        async with AsyncRateLimiter(URL, timeout=PATIENT) as client:
            client_id = new_client_id(1)

            @client.limit("export", identify=lambda user, *_: user)
            async def export(user, month):
                return f"{month} of {user}"

            self.assertEqual(await export(client_id, month=3), f"3 of {client_id}")
            with self.assertRaises(RateLimited):
                await export(client_id, 3)
            with self.assertRaisesRegex(TypeError, "allowed is an async function"):
                client.limit("export", identify="a")(lambda: None)

    async def test_many_tasks_are_counted_exactly_over_few_connections(self):
        with Relay() as relay:
            async with AsyncRateLimiter(relay.url, timeout=PATIENT, max_connections=4) as client:
                client_id = new_client_id(100)
                decisions = await asyncio.gather(*(client.check(client_id) for _ in range(200)))
                self.assertEqual(sum(decision.allowed for decision in decisions), 100)
                self.assertEqual({decision.error for decision in decisions}, {None})
            self.assertLessEqual(relay.connections, 4)

    async def test_no_thread_is_used(self):
        async with AsyncRateLimiter(URL, timeout=PATIENT) as client:
            before = threading.active_count()
            await asyncio.gather(*(client.peek("a") for _ in range(20)))
            self.assertEqual(threading.active_count(), before)

    def test_each_event_loop_has_its_own_connections(self):
        with Relay() as relay:
            client = AsyncRateLimiter(relay.url, timeout=PATIENT)

            async def ask():
                async with client:
                    return (await client.peek("a")).error, (await client.peek("a")).error

            self.assertEqual({asyncio.run(ask()) for _ in range(3)}, {(None, None)})
            self.assertEqual(relay.connections, 3)
            self.assertEqual(len(client._service.process.connections._loops), 1)  # those that ended are forgotten

    @unittest.skipUnless(hasattr(os, "fork"), "this system does not fork")
    def test_a_forked_child_begins_anew(self):
        client = AsyncRateLimiter("http://127.0.0.1:1", timeout=PATIENT)
        parent = client._service.process
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(write, b"own" if client._service.process is not parent else b"inherited")
            finally:
                os._exit(0)
        os.close(write)
        with open(read) as pipe:
            self.assertEqual(pipe.read(), "own")
        os.waitpid(pid, 0)


class TestFailures(unittest.IsolatedAsyncioTestCase):
    async def test_the_fail_mode_answers_within_the_time(self):
        for servers in (HELD, WRONG, REFUSALS):
            for name, server in servers.items():
                with self.subTest(name), server:
                    # No clock is read: without a deadline these servers would be waited for for ever.
                    timeout = 0.05 if servers is HELD else PATIENT
                    async with AsyncRateLimiter(server.url, timeout=timeout, fail_mode="closed") as client:
                        decisions = [await client.check("a"), *await client.check_many([("a",), ("b",)])]
                    for decision in decisions:
                        self.assertEqual((decision.allowed, decision.degraded), (False, True))
                        self.assertTrue(decision.error)

    async def test_the_loop_goes_on_while_the_service_hangs(self):
        with Broken() as server:
            async with AsyncRateLimiter(server.url, timeout=0.2) as client:
                asked = asyncio.ensure_future(client.check("a"))
                turns = 0
                while not asked.done():
                    turns += 1
                    await asyncio.sleep(0)
                self.assertIn("time", (await asked).error)
                self.assertGreater(turns, 50)

    async def test_a_queue_for_a_connection_ends_in_time_too(self):
        with Broken() as server:
            async with AsyncRateLimiter(server.url, timeout=0.1, max_connections=1) as client:
                decisions = await asyncio.gather(*(client.check("a") for _ in range(4)))
                self.assertTrue(all(decision.error for decision in decisions))
                connections = client._service.process.connections.of_loop
                self.assertEqual(connections._free, 1)

    async def test_deadlines_come_in_their_own_order(self):
        """One that waited for a connection has less time left than one that begins."""
        deadlines, loop = Deadlines(), asyncio.get_running_loop()
        late, soon, done = (loop.create_future() for _ in range(3))
        deadlines.add(late, time.monotonic() + 3600)
        deadlines.add(done, time.monotonic())
        deadlines.add(soon, time.monotonic() + 0.01)
        done.set_result("in time")
        with self.assertRaises(socket.timeout):
            await soon
        self.assertEqual((late.done(), await done), (False, "in time"))
        late.cancel()
        deadlines._timer.cancel()

    async def test_nobody_listens(self):
        async with AsyncRateLimiter("http://127.0.0.1:1", timeout=PATIENT) as client:
            self.assertIn("Refused", (await client.check("a")).error)
        unknown = patch("socket.getaddrinfo", side_effect=socket.gaierror("unknown name"))
        with unknown:
            async with AsyncRateLimiter("http://limiter.internal", timeout=PATIENT) as client:
                self.assertIn("unknown name", (await client.check("a")).error)

    async def test_a_service_that_fails_is_left_alone(self):
        with WRONG["500"] as server:
            async with AsyncRateLimiter(server.url, timeout=PATIENT) as client:
                errors = [(await client.check("a")).error for _ in range(9)]
            self.assertEqual((len(server.heard), all(errors)), (5, True))

    async def test_a_cancelled_check_leaves_nothing_for_the_next(self):
        with Relay() as relay:
            async with AsyncRateLimiter(relay.url, timeout=PATIENT, max_connections=1) as client:
                first, second = new_client_id(2), new_client_id(5)
                await client.peek(first)
                for _ in range(5):
                    task = asyncio.ensure_future(client.check(first))
                    await asyncio.sleep(0)
                    task.cancel()
                    with self.assertRaises(asyncio.CancelledError):
                        await task
                decisions = [await client.check(second) for _ in range(5)]
                self.assertEqual([decision.remaining for decision in decisions], [4, 3, 2, 1, 0])
                self.assertEqual(client._service.process.connections.of_loop._free, 1)


class TestConnections(unittest.IsolatedAsyncioTestCase):
    async def test_an_answer_lost_on_its_way_is_charged_once(self):
        with Relay() as relay:
            async with AsyncRateLimiter(relay.url, timeout=PATIENT) as client:
                client_id = new_client_id(10)
                for done in range(1, 4):
                    relay.cut = 1
                    self.assertEqual((await client.check(client_id)).remaining, 10 - done)
                    self.assertEqual(relay.cut, 0)

    async def test_what_has_no_id_is_sent_once(self):
        with Broken(closes=True) as server:
            async with AsyncRateLimiter(server.url, timeout=PATIENT, retry=False) as client:
                self.assertTrue((await client.check("a")).error)
                self.assertEqual(len(server.heard), 1)

    async def test_one_that_the_service_closed_is_not_used(self):
        with Broken(http(OK, BODY), closes=True) as server:
            async with AsyncRateLimiter(server.url, timeout=PATIENT, retry=False) as client:
                for number in range(1, 6):
                    self.assertIsNone((await client.check("a")).error)
                    while client._service.process.connections.of_loop._idle[0].idle():
                        await asyncio.sleep(0.001)  # until its end has come
                    self.assertEqual(len(server.heard), number)

    async def test_an_answer_nobody_asked_for_is_nobodys(self):
        more = http(OK, BODY.replace(b'"remaining": 1', b'"remaining": 777'))
        with Broken(http(OK, BODY) + more) as server:
            async with AsyncRateLimiter(server.url, timeout=PATIENT) as client:
                self.assertEqual({(await client.check("a")).remaining for _ in range(5)}, {1})

    async def test_an_answer_in_pieces_is_one_answer(self):
        answer = http(OK, BODY, "Connection: close")
        with Broken(answer[:-9], answer[-9:], pause=0.05) as server:
            async with AsyncRateLimiter(server.url, timeout=PATIENT) as client:
                self.assertIsNone((await client.check("a")).error)

    async def test_wrong_arguments_are_named(self):
        for name, value, error in (
            ("max_connections", 0, ValueError),
            ("max_connections", "4", TypeError),
            ("max_idle_connections", -1, ValueError),
            ("fail_mode", "opne", ValueError),
            ("timeout", None, TypeError),
        ):
            with self.assertRaisesRegex(error, name):
                AsyncRateLimiter("http://127.0.0.1:1", **{name: value})


if __name__ == "__main__":
    unittest.main()
