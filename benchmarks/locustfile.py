"""The users of `make load`. By hand: `locust -f benchmarks/locustfile.py Mixed --host http://127.0.0.1:8000 -u 100`

`Mixed` users wait for their answer before they ask again (closed loop). `Arrivals` asks at a constant rate however long
answers take (open loop), and measures from when a check was due. At the end, it reports whether limits were kept.
"""

from __future__ import annotations

import random
import sys
import time
from typing import Any

import gevent
from gevent.pool import Pool
from locust import FastHttpUser, between, events, task

from benchmarks.accuracy import Answer, admitted, violations

CLIENTS = ("client_a", "client_b", *(f"user_{number}" for number in range(20)))
# Of twenty requests: checks by client and key, and health probes.
MIX = [(None, "global")] * 12 + [("client_a", "login")] * 4 + [("client_a", "register")] * 3 + [("probe", "")]
MOST_OUT = 1_000  # concurrent checks in the open loop; further due checks are not sent, and count as failed
SHOWN = 10

answers: list[Answer] = []
seconds: list[float] = []  # latencies of checks; in the open loop from when the check was due
dice = random.Random(20261125)  # noqa: S311 - the same load each time


class Asking(FastHttpUser):
    """The requests of both kinds of users."""

    abstract = True

    def ask(self, due: float | None = None) -> None:
        client_id, limit_key = dice.choice(MIX)
        if client_id == "probe":
            self.client.get("/health")
        else:
            self._check(client_id or dice.choice(CLIENTS), limit_key, due)

    def _check(self, client_id: str, limit_key: str, due: float | None) -> None:
        body = {"client_id": client_id, "limit_key": limit_key}
        began = time.monotonic()
        with self.client.post("/v1/check", json=body, name=f"check {limit_key}", catch_response=True) as response:
            ended = time.monotonic()
            if response.status_code != 200:
                response.failure(f"status {response.status_code}")
                return
            answers.append(_answer(client_id, began, ended, response.json()))
            seconds.append(ended - (due or began))


class Mixed(Asking):
    """Mixed clients, limits of endpoints, health probes."""

    wait_time = between(0.02, 0.08)

    @task
    def mixed(self) -> None:
        self.ask()


class Arrivals(Asking):
    """One user, whose checks do not wait for each other."""

    fixed_count = 1
    concurrency = MOST_OUT

    @task
    def arrive(self) -> None:
        interval, due, out = 1 / self.environment.parsed_options.arrivals, time.monotonic(), Pool(MOST_OUT)
        try:
            while True:
                gevent.sleep(max(0, due - time.monotonic()))
                if out.full():
                    _not_sent(self.environment)
                else:
                    out.spawn(self.ask, due)
                due += interval
        finally:
            out.kill()


def _answer(client_id: str, began: float, ended: float, decision: dict[str, Any]) -> Answer:
    kept = {name: decision[name] for name in Answer._fields if name in decision}
    return Answer(client_id=client_id, began=began, ended=ended, **kept)


def _not_sent(environment: Any) -> None:
    error = OverflowError(f"{MOST_OUT} checks are out")
    environment.events.request.fire(
        request_type="POST", name="not sent", response_time=0, response_length=0, exception=error, context={}
    )


@events.init_command_line_parser.add_listener
def _options(parser: Any) -> None:
    parser.add_argument("--arrivals", type=float, default=200, help="checks a second of the open loop (200)")


@events.quitting.add_listener
def _judge(environment: Any, **_: Any) -> None:
    """Report the results. The exit code is 1 if a limit was not kept, a request failed, or no answer came."""
    broken, failed = violations(answers), environment.stats.total.num_failures
    say = [*_figures(environment.stats.total.num_requests, failed), *broken[:SHOWN]]
    sys.stdout.write("\n".join(say) + "\n")
    environment.process_exit_code = int(bool(broken or failed or not answers))


def _figures(requests: int, failed: int) -> list[str]:
    if not answers:
        return [f"no check was answered; failed: {failed} of {requests}"]
    took, denied = sorted(seconds), sum(not answer.allowed for answer in answers)
    p50, p95, p99 = (took[int(len(took) * part)] * 1000 for part in (0.5, 0.95, 0.99))
    lasted = max(answer.ended for answer in answers) - min(answer.began for answer in answers)
    degraded, counters = sum(answer.degraded for answer in answers), admitted(answers)
    return [
        f"checks: {len(answers):,} ({len(answers) / lasted:,.0f}/s); failed: {failed:,}; degraded: {degraded:,}",
        f"p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms",
        f"blocked: {100 * denied / len(answers):.1f} %",
        f"counters: {len(counters)}; above their limit: {len(violations(answers))}",
    ]
