"""Whom a request is counted for, and that nobody chooses it himself."""

import unittest

from ratelimiter_client import identify


def environ(peer="192.0.2.1", forwarded=None, **headers):
    found = {"HTTP_" + name: value for name, value in headers.items()}
    if forwarded is not None:
        found["HTTP_X_FORWARDED_FOR"] = forwarded
    return {"REMOTE_ADDR": peer, **found}


class TestAddress(unittest.TestCase):
    CASES = (
        # trusted, peer, X-Forwarded-For -> client
        ((), "192.0.2.1", None, "192.0.2.1"),
        ((), "192.0.2.1", "198.51.100.7", "192.0.2.1"),
        (["192.0.2.0/24"], "192.0.2.1", "198.51.100.7", "198.51.100.7"),
        (["192.0.2.0/24"], "192.0.2.1", "8.8.8.8, 198.51.100.7", "198.51.100.7"),
        (["192.0.2.0/24"], "192.0.2.1", "8.8.8.8, 198.51.100.7, 192.0.2.9", "198.51.100.7"),
        (["192.0.2.0/24", "10.0.0.1"], "10.0.0.1", "192.0.2.5,192.0.2.6", "192.0.2.5"),
        (["192.0.2.0/24"], "192.0.2.1", None, "192.0.2.1"),
        (["192.0.2.0/24"], "192.0.2.1", "", "192.0.2.1"),
        (["192.0.2.0/24"], "192.0.2.1", "8.8.8.8, nonsense", "192.0.2.1"),
        (["192.0.2.0/24"], "192.0.2.1", "8.8.8.8, nonsense, 192.0.2.7", "192.0.2.7"),
        (["192.0.2.0/24"], "192.0.2.1", "198.51.100.7:4711", "198.51.100.7"),
        (["192.0.2.0/24"], "192.0.2.1", "[2001:db8:1:2:3::4]:4711", "2001:db8:1:2::/64"),
        (["192.0.2.0/24"], "::ffff:192.0.2.1", "::ffff:198.51.100.7", "198.51.100.7"),
        (["2001:db8::/32"], "2001:db8::1", "2001:db9:1:2:3::4", "2001:db9:1:2::/64"),
        ((), "fe80::1%eth0", None, "fe80::/64"),
        ((), "", "198.51.100.7", "unknown"),
        (["unix"], "", "8.8.8.8, 198.51.100.7", "198.51.100.7"),
        (["unix", "198.51.100.7"], "", "8.8.8.8, 198.51.100.7", "8.8.8.8"),
        ("192.0.2.1", "192.0.2.1", "198.51.100.7", "198.51.100.7"),
    )

    def test_the_right_most_that_is_no_trusted_proxy(self):
        for trusted, peer, forwarded, client in self.CASES:
            found = identify.address(trusted)(environ(peer, forwarded))
            self.assertEqual(found, "ip:" + client, (trusted, peer, forwarded))
        self.assertEqual(identify.address()({}), "ip:unknown")

    def test_what_is_no_network_is_refused_at_once(self):
        with self.assertRaises(ValueError):
            identify.address(["proxy.internal"])


class TestOthers(unittest.TestCase):
    def test_a_header_is_the_id(self):
        self.assertEqual(identify.header("X-User-ID")(environ(X_USER_ID="premium_7")), "premium_7")
        self.assertIsNone(identify.header("X-User-ID")(environ()))
        self.assertIsNone(identify.header("X-User-ID")(environ(X_USER_ID="")))

    def test_a_header_is_never_the_id_of_another_kind(self):
        for other in (
            "ip:192.0.2.1",
            identify.api_key()(environ(X_API_KEY="k")),
            identify.cookie("s")(environ(COOKIE="s=1")),
        ):
            self.assertTrue(identify.header("X-User-ID")(environ(X_USER_ID=other)).startswith("header:"))

    def test_keys_and_cookies_stay_secret(self):
        key = identify.api_key()
        ids = {
            key(environ(X_API_KEY="topsecret")),
            key(environ(AUTHORIZATION="Bearer topsecret")),
            key(environ(AUTHORIZATION="bearer  topsecret")),
        }
        self.assertEqual(len(ids), 1)
        self.assertRegex(ids.pop(), "^key:[0-9a-f]{32}$")
        self.assertIsNone(key(environ(AUTHORIZATION="Basic topsecret")))
        cookie = identify.cookie("session")
        self.assertRegex(cookie(environ(COOKIE="a=b; session=topsecret=; c")), "^cookie:[0-9a-f]{32}$")
        self.assertNotEqual(cookie(environ(COOKIE="session=1")), cookie(environ(COOKIE="session=2")))
        for none in ("", "session", "session=", "xsession=1", ";;="):
            self.assertIsNone(cookie(environ(COOKIE=none)), none)

    def test_one_cookie_is_one_client_however_it_is_written(self):
        cookie = identify.cookie("s")
        ways = ("s=a;c", "s= a", " s =\t a ", 's="a"', 's="\\141"', 's="\\a"', "s=a; s=a", 'x=y; s="a"; s=a')
        self.assertEqual(len({cookie(environ(COOKIE=way)) for way in ways}), 1)
        self.assertNotEqual(cookie(environ(COOKIE='s="a')), cookie(environ(COOKIE="s=a")))

    def test_of_several_cookies_or_keys_nobody_knows_which_one_the_application_reads(self):
        for headers in ({"COOKIE": "s=a; s=b"}, {"COOKIE": 's=a; s="b"'}):
            self.assertIsNone(identify.cookie("s")(environ(**headers)))
        key = identify.api_key()
        self.assertIsNone(key(environ(X_API_KEY="a", AUTHORIZATION="Bearer b")))
        same = {key(environ(X_API_KEY="a", AUTHORIZATION="Bearer a")), key(environ(X_API_KEY=" a "))}
        self.assertEqual(same, {key(environ(AUTHORIZATION="Bearer a"))})
        self.assertEqual(key(environ(X_API_KEY="a", AUTHORIZATION="Basic b")), key(environ(X_API_KEY="a")))


if __name__ == "__main__":
    unittest.main()
