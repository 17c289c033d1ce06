"""Does an episode to a node, and tells what came of it that should not."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import socket
import struct
import threading
import time
from collections import Counter
from typing import Any

from devstack import Valkey
from tests.api.raw_http import post
from tests.attacks.actions import RULE, Action, Episode
from tests.support.answers import Answers
from tests.support.node import ADMIN_KEY, Node
from tests.support.processes import resident_bytes
from tests.support.stalls import STALL_SECONDS, Stalls

WINDOW = 1_000_000  # seconds: no unit comes back meanwhile
SLOW_SECONDS = 1.0
KEPT_SECONDS = 3  # unused; the node ends such connections after 5
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close resets the connection
KEYS = {"admin": ADMIN_KEY, "wrong": "rl_wrong_key", "none": ""}


class Tally:
    """What honest callers were told, by counted client; and `findings`, each a kind and a sentence."""

    def __init__(self) -> None:
        self.findings: list[tuple[str, str]] = []
        self.admitted: Counter[int] = Counter()
        self.lost: Counter[int] = Counter()  # units asked for without an answer
        self.once: dict[tuple[int, str], int] = {}
        self._lock = threading.Lock()

    def found(self, kind: str, what: str) -> None:
        self.findings.append((kind, what[:300]))

    def judge(self, check: dict[str, Any], decision: dict[str, Any], seconds: float) -> None:
        """Take a decision. Admissions under one request_id are charged once."""
        if "allowed" not in decision:
            self.found("refused", f"{decision} to {check}")
            return
        if decision["degraded"]:
            self.found("degraded", f"{decision} to {check}")
        if seconds > SLOW_SECONDS:
            self.found("slow", f"{seconds:.1f} s for {check}")
        with self._lock:
            known = check.get("request_id") and self.once.setdefault((check["client"], check["request_id"]), 0)
            if decision["allowed"] and not known:
                self.admitted[check["client"]] += check["cost"]
                if "request_id" in check:
                    self.once[check["client"], check["request_id"]] = 1

    def lose(self, checks: list[dict[str, Any]]) -> None:
        with self._lock:
            for check in checks:
                self.lost[check["client"]] += check["cost"]


class Caller(threading.Thread):
    """Does its actions one after the other, checks on one connection as long as it holds."""

    def __init__(self, node: Node, names: list[str], rule_id: int, actions: list[Action], tally: Tally) -> None:
        super().__init__()
        self._node, self._names, self._rule, self._actions, self._tally = node, names, str(rule_id), actions, tally
        self._connection: socket.socket | None = None
        self._used = 0.0

    def run(self) -> None:
        for action in self._actions:
            try:
                getattr(self, action["do"])(action)
            except Exception as error:
                self._tally.found("broken", f"{error!r} after {str(action)[:200]}")
                self.reconnect(action)
        self.reconnect({})

    def check(self, action: Action) -> None:
        self._asked(action["checks"], [post("/v1/check", self._body(check)) for check in action["checks"]])

    pipeline = check

    def batch(self, action: Action) -> None:
        body = b'{"checks":[' + b",".join(map(self._body, action["checks"])) + b"]}"
        self._asked(action["checks"], [post("/v1/check/batch", body)])

    def drop(self, action: Action) -> None:
        """Ask, and be gone before the answer."""
        self._tally.lose(action["checks"])
        with self._opened() as connection:
            connection.sendall(post("/v1/check", self._body(action["checks"][0])))

    def raw(self, action: Action) -> None:
        sent = action["bytes"].encode("latin-1")
        size = max(1, len(sent) // action["pieces"])
        with self._opened() as connection, contextlib.suppress(OSError):
            for start in range(0, len(sent), size):
                connection.sendall(sent[start : start + size])
                time.sleep(0.002)
            connection.settimeout(0.05)
            self._told_of(action, connection.recv(65536)[:12].decode("latin-1")[9:12])
            if action["reset"]:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    def send(self, action: Action) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._node.port, timeout=30)
        headers = {"Content-Type": "application/json", "X-API-Key": KEYS[action["key"]]}
        if action["key"] == "none":
            del headers["X-API-Key"]
        body = action["body"].encode("utf-8", "surrogatepass") if action["body"] is not None else None
        try:
            connection.request(action["method"], action["path"].replace(RULE, self._rule), body, headers)
            self._told_of(action, str(connection.getresponse().status))
        except (ConnectionError, http.client.RemoteDisconnected):
            if len(body or b"") < 4096:  # beyond, it may refuse without reading all
                raise
        finally:
            connection.close()

    def pause(self, action: Action) -> None:
        time.sleep(action["ms"] / 1000)

    def reconnect(self, _: Action) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _told_of(self, action: Action, status: str) -> None:
        if status >= "500":
            self._tally.found("5xx", f"{status} to {action}")

    def _asked(self, checks: list[dict[str, Any]], requests: list[bytes]) -> None:
        self._tally.lose(checks)  # until they are answered
        began = time.monotonic()
        if began - self._used > KEPT_SECONDS:
            self.reconnect({})
        self._connection = self._connection or self._opened()
        self._connection.sendall(b"".join(requests))
        answers, decisions = Answers(self._connection), []
        for _ in requests:
            received = answers.next()
            answer = json.loads(received.body)
            decisions += answer.get("results", [answer])
        self._used = time.monotonic()
        seconds = self._used - began
        for check, decision in zip(checks, decisions, strict=True):
            self._tally.lost[check["client"]] -= check["cost"]
            self._tally.judge(check, decision, seconds)

    def _opened(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._node.port), timeout=30)

    def _body(self, check: dict[str, Any]) -> bytes:
        fields = {"client_id": self._names[check["client"]], "cost": check["cost"]}
        return json.dumps(fields | ({"request_id": check["request_id"]} if "request_id" in check else {})).encode()


def tried(node: Node, redis: Valkey, episode: Episode) -> list[tuple[str, str]]:
    """What was found wrong while and after the callers did all of it."""
    names = [f"search {secrets.token_hex(4)} {number}" for number in range(len(episode["clients"]))]
    rules = [
        {"client_id": name, "rate": client["limit"], "window": WINDOW, "algorithm": client["algorithm"]}
        for name, client in zip(names, episode["clients"], strict=True)
    ]
    stored = [node.request("POST", "/v1/admin/rules", json=rule).json() for rule in rules]
    hurt = node.put_rule(client_id="w", endpoint="hurt", rate=5, window=60)
    workers, tally = node.workers, Tally()
    callers = [Caller(node, names, hurt["id"], actions, tally) for actions in episode["callers"]]
    with Stalls(redis.pid) as stalls:
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    if stalls.longest > STALL_SECONDS:  # then these two say nothing
        tally.findings = [finding for finding in tally.findings if finding[0] not in ("degraded", "slow")]
    if node.workers != workers:
        tally.found("died", f"workers {workers} are now {node.workers}")
    for number, (name, rule) in enumerate(zip(names, stored, strict=True)):
        _count(node, name, rule, tally, number)
        node.request("DELETE", f"/v1/admin/rules/{rule['id']}")
    return tally.findings


def _count(node: Node, name: str, rule: dict[str, Any], tally: Tally, number: int) -> None:
    peek = node.check(name, cost=0)
    charged = rule["rate"] - peek["remaining"]
    least, most = tally.admitted[number], tally.admitted[number] + tally.lost[number]
    if peek["rule_id"] != str(rule["id"]) and peek["rule_id"] != rule["id"]:
        tally.found("rule", f"{peek} instead of {rule}")
    elif not least <= charged <= most:
        tally.found("miscounted", f"{rule['algorithm']} {rule['rate']}: {charged} charged, {least} to {most} admitted")


def sizes(node: Node) -> dict[str, int]:
    """What must not grow for ever."""
    files = [len(os.listdir(f"/proc/{pid}/fd")) for pid in node.workers]
    series = node.request("GET", "/metrics", key=None).text.count("\n")
    return {"MiB": max(map(resident_bytes, node.workers)) >> 20, "files": max(files), "series": series}
