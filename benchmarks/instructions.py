"""Redis's instructions per check, alone or together with others: `python -m benchmarks.instructions`.

Also those of a check by two rules, of which one has a counter that all clients share.

Microseconds grow with the number of clients, because fewer of them fit in the CPU caches. Instructions show whether the
work itself grows. valgrind counts those of a filled server for two numbers of checks; the difference belongs to the
additional checks. Saved in benchmarks/results/instructions.json.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import redis

from app.limiter.compiled_rule import Charge, CompiledRule
from app.limiter.joint.joint_rule import joined
from app.limiter.keys import Keyspace
from app.limiter.redis.store import TOGETHER, RedisStore, connect
from app.rules.rule import Limit, Rule
from benchmarks.machine import described
from devstack import Valkey, runtime_directory
from devstack.servers.valkey import binary
from tests.support.node import free_port

RESULT = Path(__file__).parent / "results" / "instructions.json"
CLIENTS = (1_000, 1_000_000)
CHECKS = (2_000, 12_000)
PLAN = CompiledRule(Rule(id=1, client_id="*", limits=(Limit(9_000, 1_000_000, "token_bucket"),)))
OF_ALL = Rule(id=2, client_id="*", layer="all", shared=True, limits=(Limit(1_000_000_000, 9, "token_bucket"),))
LAYERS = joined([PLAN, CompiledRule(OF_ALL)], (0, 1))
# By name: the compiled rule, and the number of checks per round trip.
HOW = {"alone": (PLAN, 1), "together": (PLAN, TOGETHER), "layers": (LAYERS, 1), "layers together": (LAYERS, TOGETHER)}
CHARGED = 1_000  # units charged to each client beforehand, so that no counter expires during the run
START_SECONDS = 300
REFERENCES = re.compile(r"I\s+refs:\s+([\d,]+)")


def main() -> None:
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is missing: install the package valgrind (Debian and Ubuntu: apt-get install valgrind)")
    figures = {}
    for clients in CLIENTS:
        with tempfile.TemporaryDirectory() as home:
            version = _fill(Path(home), clients)
            figures[str(clients)] = {how: _per_check(Path(home), clients, *asked) for how, asked in HOW.items()}
        sys.stdout.write(f"{clients} clients, instructions a check: {figures[str(clients)]}\n")
        sys.stdout.flush()
    result = described("python -m benchmarks.instructions", version) | {"redis_instructions_per_check": figures}
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


def _fill(home: Path, clients: int) -> str:
    """Give every client a counter and save the data for later servers; return the server's version."""
    with runtime_directory() as sockets, Valkey(data_dir=home, socket_dir=sockets, durable=False) as valkey:
        _check(valkey.url, range(clients), PLAN, TOGETHER, cost=CHARGED)
        server = redis.Redis.from_url(valkey.url)
        server.save()
        return str(server.info("server")["valkey_version"])


def _per_check(home: Path, clients: int, compiled: CompiledRule, at_once: int) -> int:
    few, many = (_counted(home, clients, checks, compiled, at_once) for checks in CHECKS)
    return round((many - few) / (CHECKS[1] - CHECKS[0]))


def _counted(home: Path, clients: int, checks: int, compiled: CompiledRule, at_once: int) -> int:
    """Return all instructions of a server that loads the data and answers this many checks."""
    port = free_port()
    count = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(home), "--save", ""]
    with (home / "valgrind").open("w") as log:
        server = subprocess.Popen([*count, str(binary()), *options], stdout=subprocess.DEVNULL, stderr=log)
        try:
            client = redis.Redis(port=port)
            _await(client)
            # Spread over all clients: 7,919 has no factor in common with their number.
            asked = [number * 7_919 % clients for number in range(checks)]
            _check(f"redis://127.0.0.1:{port}/0", asked, compiled, at_once)
            client.shutdown(nosave=True)
            server.wait(START_SECONDS)
        finally:
            server.kill()
            server.wait()
    found = REFERENCES.search((home / "valgrind").read_text())
    if found is None:
        sys.exit((home / "valgrind").read_text())
    return int(found[1].replace(",", ""))


def _await(client: redis.Redis) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            client.ping()
            return
        except redis.ConnectionError:  # not started yet, or still loading
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _check(url: str, clients: range | list[int], compiled: CompiledRule, at_once: int, cost: int = 1) -> None:
    """Check each client, `at_once` per round trip, with the scripts and key names of production."""
    keyspace = Keyspace(b"benchmark")
    store = RedisStore(connect(url, timeout_ms=60_000, clock=time.monotonic))
    for start in range(0, len(clients), at_once):
        asked = [keyspace.client(1, f"user_{number}") for number in clients[start : start + at_once]]
        store.check([_charge(compiled, client, cost, keyspace) for client in asked])


def _charge(compiled: CompiledRule, client: bytes, cost: int, keyspace: Keyspace) -> Charge:
    owners = (client, keyspace.shared(1, OF_ALL, None)) if compiled is LAYERS else ()
    return Charge(compiled, client, cost, None, owners)


if __name__ == "__main__":
    main()
