"""The worst-case cost of a check for Redis, by script: `python -m benchmarks.worst_cases`.

Starts an embedded Valkey and brings counters into the most expensive state of their algorithm. Microseconds are the
server's own (INFO commandstats), of the calmer half of ROUNDS. app/limiter/compiled_rule.py bounds calls by these
figures. Saved in benchmarks/results/worst_cases.json.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import redis

from app.limiter.compiled_rule import Charge, ChargeRecord, CompiledRule
from app.limiter.keys import Keyspace, lease_name
from app.limiter.redis.scripts import lease_release_script, lease_script
from app.limiter.redis.store import RedisStore, connect
from app.rules.rule import ALGORITHMS, MAX_LIMITS, MAX_LOGGED_RATE, Limit, Rule
from benchmarks.machine import described
from devstack import Valkey, runtime_directory

RESULT = Path(__file__).parent / "results" / "worst_cases.json"
NOW_US, WINDOW = 1_795_000_000_000_000, 3600
ROUNDS, CHECKS = 12, 256
FEW = 1_000  # rate of the limits without an entry per unit
Ask = Callable[[int], Sequence[Charge]]  # argument: the number of the round


class Server:
    """`client` inspects the server that `store` uses."""

    def __init__(self, url: str) -> None:
        self.store = RedisStore(connect(url, timeout_ms=20_000, clock=time.monotonic))
        self.client = redis.Redis.from_url(url)
        self.store.load_scripts()

    def spent_us(self, ask: Ask, now_us: int = NOW_US, rounds: int = ROUNDS) -> float:
        """Return the microseconds of one charge: the median of the cheaper half of the rounds."""
        spent = []
        for number in range(rounds):
            charges = ask(number)
            self.client.config_resetstat()
            self.store.check(charges, now_us + number)
            spent.append(self.client.info("commandstats")["cmdstat_evalsha"]["usec"] / len(charges))
        return round(statistics.median(sorted(spent)[: max(1, rounds // 2)]), 1)


def filled(server: Server, algorithm: str, limits: int) -> Charge:
    """Return a one-unit charge of a client whose limits, `limits` of that algorithm, are exhausted."""
    rate = MAX_LOGGED_RATE if algorithm == "sliding_window" else FEW
    each = tuple(Limit(rate, WINDOW + number, algorithm, counter=number + 1) for number in range(limits))
    compiled = CompiledRule(Rule(id=1, client_id="*", limits=each))
    charge = Charge(compiled, Keyspace(b"benchmark").client(1, f"{algorithm} {limits}"), 1)
    for start in range(0, rate, 1_000):  # a log gets one entry per unit
        server.store.check([charge] * 1_000, NOW_US - rate + start)
    return charge


def with_cost(charge: Charge, cost: int) -> Charge:
    return Charge(charge.compiled, charge.client, cost, charge.record)


def of_checks(server: Server, algorithm: str, limits: int) -> dict[str, float]:
    """Return the microseconds of denied checks with different costs, of a repeated denial, and of an admitted check."""
    full = filled(server, algorithm, limits)
    rate = full.compiled.rule.limits[0].rate
    fresh = Keyspace(b"benchmark")
    return {
        "denied, costs differ": server.spent_us(lambda _: [with_cost(full, rate - n) for n in range(CHECKS)]),
        "denied again": server.spent_us(lambda _: [with_cost(full, rate // 2)] * CHECKS),
        "admitted": server.spent_us(
            lambda number: [Charge(full.compiled, fresh.client(1, f"{limits} {number} {n}"), 1) for n in range(CHECKS)]
        ),
    }


def of_a_log(server: Server) -> dict[str, float]:
    """Return the microseconds of rare operations on a full log: a charge that cuts it, a lease, its return."""
    full = filled(server, "sliding_window", 1)
    half = NOW_US + WINDOW * 1_000_000 - MAX_LOGGED_RATE // 2
    spent = {"a charge that cuts off half of it": server.spent_us(lambda _: [full], half, rounds=1)}
    compiled, names = full.compiled, {}

    def lease(number: int) -> Sequence[Charge]:
        names[number] = ChargeRecord(
            lease_name(compiled.counter_names, f"nonce{number:011d}"), b"10000000", lease_script()
        )
        return [Charge(compiled, full.client, 5, names[number])]

    def give_back(number: int) -> Sequence[Charge]:
        return [Charge(compiled, full.client, 5, ChargeRecord(names[number].name, script=lease_release_script()))]

    spent["a lease"] = server.spent_us(lease, half + 1_000)
    spent["its return"] = server.spent_us(give_back, half + 2_000)
    return spent


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as home,
        runtime_directory() as sockets,
        Valkey(data_dir=Path(home) / "valkey", socket_dir=sockets, durable=False) as embedded,
    ):
        server = Server(embedded.url)
        result = {
            **described("python -m benchmarks.worst_cases", server.client.info("server")["valkey_version"]),
            "us_a_check": {
                algorithm: {f"{limits}": of_checks(server, algorithm, limits) for limits in (1, MAX_LIMITS)}
                for algorithm in ALGORITHMS
            },
            "us_of_a_log": of_a_log(server),
        }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write(RESULT.read_text())


if __name__ == "__main__":
    main()
