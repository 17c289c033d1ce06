"""Connections are used again, by one at a time, and what breaks on them is charged once."""

import select
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path
from unittest.mock import patch

from support import PATIENT, URL, Broken, Relay, http, new_client_id
from test_failures import BODY, OK

from ratelimiter_client import RateLimiter, RateLimiterError
from ratelimiter_client.http.transport import over

CERTIFICATE = (
    "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
)


class TestConnections(unittest.TestCase):
    def test_one_after_another_share_one(self):
        with Relay() as relay, RateLimiter(relay.url, timeout=PATIENT) as client:
            self.assertEqual({client.peek("a").error for _ in range(50)}, {None})
            self.assertEqual(relay.connections, 1)

    def test_closing_closes_and_the_client_stays_usable(self):
        with Relay() as relay, RateLimiter(relay.url, timeout=PATIENT) as client:
            for _ in range(3):
                self.assertIsNone(client.peek("a").error)
                client.close()
            self.assertEqual(relay.connections, 3)

    def test_those_that_wait_are_bounded(self):
        with Relay() as relay, RateLimiter(relay.url, timeout=PATIENT, max_idle_connections=2) as client:
            barrier = threading.Barrier(6)
            errors = []

            def run():
                barrier.wait()
                errors.extend(client.check("a", cost=0).error for _ in range(20))

            threads = [threading.Thread(target=run) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(errors, [None] * 120)
            self.assertLessEqual(len(client._service.process.connections._idle), 2)

    def test_many_threads_are_counted_exactly(self):
        with RateLimiter(URL, timeout=PATIENT) as client:
            client_id = new_client_id(100)
            allowed = []
            threads = [
                threading.Thread(target=lambda: allowed.extend(client.check(client_id).allowed for _ in range(25)))
                for _ in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual((len(allowed), sum(allowed)), (200, 100))

    def test_one_that_the_service_closed_is_not_used(self):
        with Broken(http(OK, BODY), closes=True) as server:
            with RateLimiter(server.url, timeout=PATIENT, retry=False) as client:
                for _ in range(5):
                    self.assertIsNone(client.check("a").error)
                    [connection] = client._service.process.connections._idle
                    select.select([connection._socket], [], [], PATIENT)  # until its end has come
            self.assertEqual((server.connections, len(server.heard)), (5, 5))

    def test_an_address_of_a_kind_that_the_system_lacks_is_passed_over(self):
        unknown = (max(socket.AddressFamily) + 1, socket.SOCK_STREAM, 6, "", ("::1", 80, 0, 0))
        with Broken(http(OK, BODY)) as server, RateLimiter(server.url, timeout=PATIENT) as client:
            port = int(server.url.rpartition(":")[2])
            addresses = [unknown, *socket.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM)]
            with patch("socket.getaddrinfo", return_value=addresses):
                self.assertIsNone(client.check("a").error)

    def test_an_answer_nobody_asked_for_is_nobodys(self):
        more = http(OK, BODY.replace(b'"remaining": 1', b'"remaining": 777'))
        with Broken(http(OK, BODY) + more) as server, RateLimiter(server.url, timeout=PATIENT) as client:
            self.assertEqual({client.check("a").remaining for _ in range(5)}, {1})

    def test_an_answer_in_pieces_is_one_answer(self):
        answer = http(OK, BODY, "Connection: close")
        with Broken(answer[:-9], answer[-9:], pause=0.05) as server, RateLimiter(server.url, timeout=PATIENT) as client:
            self.assertIsNone(client.check("a").error)


class TestSending(unittest.TestCase):
    """Requests that fit in no buffer."""

    def setUp(self):
        ours, self.service = socket.socketpair()
        self.connection = over(ours)
        self.addCleanup(self.connection.close)
        self.addCleanup(self.service.close)

    def exchange(self, request, seconds):
        return self.connection.exchange(request, time.monotonic() + seconds, 1000)

    def test_one_that_is_read_slowly_arrives_whole(self):
        request = bytes(range(256)) * 20_000
        received = []

        def serve():
            while sum(map(len, received)) < len(request):
                received.append(self.service.recv(50_000))
            self.service.sendall(http(OK, BODY))

        thread = threading.Thread(target=serve)
        thread.start()
        answer = self.exchange(request, PATIENT)
        thread.join()
        self.assertEqual((answer.body, b"".join(received)), (BODY, request))
        self.assertTrue(self.connection.idle())

    def test_one_that_nobody_reads_ends_at_its_deadline(self):
        started = time.monotonic()
        with self.assertRaises(socket.timeout):
            self.exchange(bytes(10_000_000), 0.05)
        self.assertLess(time.monotonic() - started, PATIENT)


class TestRetry(unittest.TestCase):
    def test_an_answer_lost_on_its_way_is_charged_once(self):
        with Relay() as relay, RateLimiter(relay.url, timeout=PATIENT) as client:
            client_id = new_client_id(10)
            for done in range(1, 4):
                relay.cut = 1
                self.assertEqual(client.check(client_id).remaining, 10 - done)
                self.assertEqual(relay.cut, 0)
            relay.cut = 1
            self.assertEqual([one.remaining for one in client.check_many([(client_id,), (client_id,)])], [6, 5])
            self.assertEqual(client.peek(client_id).remaining, 5)

    def test_it_is_sent_twice_at_most(self):
        with Broken(closes=True) as server, RateLimiter(server.url, timeout=PATIENT) as client:
            self.assertTrue(client.check("a").error)
            self.assertEqual(len(server.heard), 2)

    def test_what_has_no_id_is_sent_once(self):
        with Broken(closes=True) as server, RateLimiter(server.url, timeout=PATIENT, retry=False) as client:
            self.assertTrue(client.check("a").error)
            self.assertTrue(client.check_many([("a",)])[0].error)
            with self.assertRaises(RateLimiterError):
                client.lease("a", "b", 1, 1)
            self.assertEqual(len(server.heard), 3)

    def test_what_charges_nothing_or_has_the_callers_id_may_be_sent_again(self):
        with Broken(closes=True) as server, RateLimiter(server.url, timeout=PATIENT, retry=False) as client:
            self.assertTrue(client.peek("a").error)
            self.assertTrue(client.check("a", request_id="1").error)
            self.assertEqual(len(server.heard), 4)

    def test_a_check_out_of_time_is_not_sent_again(self):
        with Broken() as server, RateLimiter(server.url, timeout=0.2) as client:
            self.assertTrue(client.check("a").error)
            self.assertLessEqual(len(server.heard), 1)


@unittest.skipUnless(shutil.which("openssl"), "openssl, which makes the certificate, is not installed")
class TestTls(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.certificate, key = (str(Path(directory.name) / name) for name in ("certificate.pem", "key.pem"))
        command = [*CERTIFICATE.split(), "-out", self.certificate, "-keyout", key]
        subprocess.run(command, check=True, capture_output=True)
        self.server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.server.load_cert_chain(self.certificate, key)

    def test_over_tls(self):
        with Relay(tls=self.server) as relay:
            url = relay.url.replace("http:", "https:")
            with RateLimiter(url, timeout=PATIENT, ca_file=self.certificate) as client:
                client_id = new_client_id()
                self.assertEqual({client.check(client_id, cost=0).error for _ in range(20)}, {None})
                relay.cut = 1
                self.assertEqual(client.check(client_id, cost=50).remaining, 50)
            self.assertEqual(relay.connections, 2)
            with RateLimiter(url, timeout=PATIENT) as distrustful:
                self.assertIn("CERTIFICATE_VERIFY_FAILED", distrustful.check(client_id).error)

    def test_a_handshake_has_no_more_time_than_a_call(self):
        for server in (Broken(), Broken(b"\x16\x03\x03\x20\x00", b"x")):
            with server, RateLimiter(server.url.replace("http:", "https:"), timeout=0.1) as client:
                self.assertTrue(client.check("a").error)


if __name__ == "__main__":
    unittest.main()
