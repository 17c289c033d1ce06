"""Two hundred requests, ever the same: `python script.py URL` writes the answers as JSON, one a line."""

import http.client
import json
import random
import sys
from collections.abc import Iterator
from urllib.parse import urlencode, urlsplit

USERS = ("ann", "bob", "pro-cy")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
KINDS = {
    "index": ("GET", "/"),
    "about": ("GET", "/about"),
    "health": ("GET", "/health"),
    "me": ("GET", "/me"),
    "search": ("GET", "/search?q=tea"),
    "order": ("POST", "/orders"),
    "cancel": ("DELETE", "/orders/7"),
    "export": ("GET", "/export?months=3"),
    "large export": ("GET", "/export?months=13"),
    "stats": ("GET", "/stats"),
    "internal stats": ("GET", "/stats"),
    "read comments": ("GET", "/comments"),
    "write comment": ("POST", "/comments"),
    "items": ("GET", "/items/"),
    "item": ("GET", "/items/jam"),
    "unknown": ("GET", "/unknown"),
    "login": ("POST", "/login"),
    "wrong login": ("POST", "/login"),
}


def script(number: int = 200, seed: int = 19) -> Iterator[tuple[str, str, dict[str, str], str | None]]:
    """(method, path, headers, body) of each."""
    chance = random.Random(seed)  # noqa: S311  the same requests each time
    for _ in range(number):
        kind, user = chance.choice(list(KINDS)), chance.choice(USERS)
        method, path = KINDS[kind]
        headers = {"X-User": user, "X-Internal": "1"} if kind == "internal stats" else {"X-User": user}
        body = None
        if path == "/login":
            headers = FORM
            name = chance.choice((user, user.upper(), f" {user} "))
            body = urlencode({"name": name, "password": "right" if kind == "login" else "guess"})
        yield method, path, headers, body


def answers(url: str) -> list[list[str | int]]:
    """[method, path, status, body] of each, in order."""
    found: list[list[str | int]] = []
    for method, path, headers, body in script():
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        found.append([method, path, answer.status, (answer.read().decode().splitlines() or [""])[0]])
        connection.close()
    return found


if __name__ == "__main__":
    for answer in answers(sys.argv[1]):
        sys.stdout.write(json.dumps(answer) + "\n")
