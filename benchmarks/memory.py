"""Redis memory per client, and the cost of a check of a long log: `python -m benchmarks.memory`.

Starts an embedded Valkey, fills it through the real scripts with the key names of production, and writes
benchmarks/results/memory.json. Bytes are MEMORY USAGE; microseconds are the server's own (INFO commandstats).
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import redis

from app.limiter.compiled_rule import Charge, ChargeRecord, CompiledRule
from app.limiter.keys import Keyspace, answer_name, meaning
from app.limiter.redis.store import RedisStore, connect
from app.rules.rule import ALGORITHMS, MAX_LOGGED_RATE, Limit, Rule
from benchmarks.machine import described
from devstack import Valkey, runtime_directory

RESULT = Path(__file__).parent / "results" / "memory.json"
NOW_US = 1_795_000_000_000_000
ENTRIES = (10, 100, 1_000, 10_000, 100_000)
BATCH = 1_000
PEEKS = 200


def charge(limit: Limit, client: str, cost: int = 1) -> Charge:
    rule = Rule(id=123, client_id="*", limits=(limit,))
    return Charge(CompiledRule(rule), Keyspace(b"benchmark").client(1, client), cost)


def key_of(asked: Charge) -> bytes:
    return asked.client + asked.compiled.counter_names[0]


def per_client(store: RedisStore, client: redis.Redis) -> dict[str, int]:
    """Return the bytes of a client with a single-limit rule after one check, by algorithm."""
    sizes = {}
    for algorithm in ALGORITHMS:
        asked = charge(Limit(1000, 3600, algorithm), "user_123")
        store.check([asked])
        sizes[algorithm] = client.memory_usage(key_of(asked), samples=0)
    return sizes


def per_request_id(store: RedisStore, client: redis.Redis) -> dict[str, int]:
    """Return the bytes of an admitted check's answer, kept for a minute, by length of its request id."""
    sizes = {}
    for length in (16, 36, 64):
        asked = charge(Limit(1000, 3600, "token_bucket"), "user_123")
        record = ChargeRecord(answer_name("r" * length, shadow=False), meaning("global", 1) + asked.compiled.terms)
        store.check([Charge(asked.compiled, asked.client, 1, record)])
        sizes[str(length)] = client.memory_usage(asked.client + record.name, samples=0)
    return sizes


def log(store: RedisStore, client: redis.Redis, entries: int) -> dict[str, float]:
    """Return the bytes per entry of an exact log with unit-cost entries, and the microseconds of a check."""
    asked = charge(Limit(MAX_LOGGED_RATE, 3600, "sliding_window"), f"log of {entries}")
    for start in range(0, entries, BATCH):
        store.check([asked] * min(BATCH, entries - start), NOW_US + start)
    size = client.memory_usage(key_of(asked), samples=0)
    client.config_resetstat()
    store.check([charge(asked.compiled.rule.limits[0], f"log of {entries}", 0)] * PEEKS, NOW_US + 1_800_000_000)
    peeks_us = client.info("commandstats")["cmdstat_evalsha"]["usec"]  # of few calls, because peeks share calls
    return {"bytes_per_entry": round(size / entries, 1), "check_us": round(peeks_us / PEEKS, 1)}


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as home,
        runtime_directory() as sockets,
        Valkey(data_dir=Path(home) / "valkey", socket_dir=sockets, durable=False) as server,
        redis.Redis.from_url(server.url, decode_responses=True) as client,
    ):
        store = RedisStore(connect(server.url, timeout_ms=20_000, clock=time.monotonic))
        store.load_scripts()
        result: dict[str, Any] = {
            **described("python -m benchmarks.memory", client.info("server")["valkey_version"]),
            "key": key_of(charge(Limit(1, 1, "gcra"), "user_123")).decode(),
            "bytes_per_client": per_client(store, client),
            "bytes_per_request_id": per_request_id(store, client),
            "log": {str(entries): log(store, client, entries) for entries in ENTRIES},
        }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write(RESULT.read_text())


if __name__ == "__main__":
    main()
