"""A legacy application under load: wsgiref's server, a thread for each request, the middleware around it.

RATELIMITER_REQUESTS: how many, 1,000 if unset.
"""

import http.client
import os
import threading
import unittest
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from support import PATIENT, URL, new_client_id
from test_middleware import application

from ratelimiter_client import RateLimiter, RateLimitMiddleware, identify

REQUESTS = int(os.environ.get("RATELIMITER_REQUESTS", "1000"))
USERS = 4
THREADS = 8
WARM = 200  # requests, after which everything is open that stays so
DESCRIPTORS = "/dev/fd"


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = False
    block_on_close = False  # Python 3.8 keeps a list of all its threads otherwise
    request_queue_size = 128


class Handler(WSGIRequestHandler):
    def log_message(self, *_):
        pass


def descriptors():
    return len(os.listdir(DESCRIPTORS))


class TestLegacyApplication(unittest.TestCase):
    def setUp(self):
        self.client = RateLimiter(URL, timeout=PATIENT)
        self.addCleanup(self.client.close)
        app = RateLimitMiddleware(application, self.client, identify.header("X-User"))
        self.server = make_server("127.0.0.1", 0, app, Server, Handler)
        self.addCleanup(self.server.server_close)
        thread = threading.Thread(target=self.server.serve_forever)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.server.shutdown)

    def request(self, user):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=60)
        try:
            connection.request("GET", "/", headers={"X-User": user})
            answer = connection.getresponse()
            answer.read()
            return user, answer.status
        finally:
            connection.close()

    def requests(self, users):
        with ThreadPoolExecutor(THREADS) as callers:
            return Counter(callers.map(self.request, users))

    def settled(self):
        """Threads and descriptors, when the requests that are answered have ended."""
        for thread in threading.enumerate():
            if thread not in self.known:
                thread.join(PATIENT)
        return threading.active_count(), descriptors()

    @unittest.skipUnless(os.path.isdir(DESCRIPTORS), "this system has no /dev/fd to count descriptors in")
    def test_limits_are_exact_and_nothing_leaks(self):
        self.known = set(threading.enumerate())
        share = REQUESTS // USERS
        prefix = new_client_id(share // 2)
        self.requests([new_client_id() + "w"] * WARM)
        before = self.settled()
        users = [f"{prefix}-{number % USERS}" for number in range(REQUESTS)]
        answered = self.requests(users)
        after = self.settled()
        expected = {}
        for user in set(users):
            expected[user, 200] = share // 2
            expected[user, 429] = share - share // 2
        self.assertEqual(answered, expected)
        self.assertEqual(after[0], before[0], "threads")
        # Each caller may have had a connection of its own to the service at once, of which 16 wait at most.
        self.assertLessEqual(after[1], before[1] + 16, "descriptors")
        print(f"{REQUESTS} requests: threads {before[0]} -> {after[0]}, descriptors {before[1]} -> {after[1]}")


if __name__ == "__main__":
    unittest.main()
