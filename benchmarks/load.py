"""Load by wrk: 32 kept-alive connections, each sending again after its answer, with every answer checked."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONNECTIONS, CLIENTS, BATCH = 32, 20_000, 100
SCRIPT = Path(__file__).with_suffix(".lua")


class RunError(Exception):
    """A run with invalid figures; the message says why."""


@dataclass(frozen=True)
class Load:
    """`kind` is one of load.lua's. Every answer must contain `wanted`, and never another value of `allowed`."""

    wanted: dict[str, Any]
    kind: str = "check"
    limit_key: str = "token_bucket"
    clients: int = CLIENTS

    @property
    def checks_per_request(self) -> int:
        return BATCH if self.kind == "batch" else 1

    def run(self, port: int, *, seconds: int, seed: int) -> Run:
        """Return `seconds` of load, sent from this process's processor. Raises RunError unless all went well."""
        wanted = f'"allowed":{json.dumps(self.wanted["allowed"])}' if "allowed" in self.wanted else ""
        words = (self.kind, self.limit_key, str(self.clients), str(seed), wanted)
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s", "-s", str(SCRIPT)]
        command += [f"http://127.0.0.1:{port}", "--", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
        if done.returncode != 0:
            raise RunError(f"wrk: {done.stderr.strip() or done.stdout.strip()}")
        report = json.loads(done.stdout.splitlines()[-1])
        if errors := {name: count for name, count in report.pop("errors").items() if count}:
            raise RunError(f"of {report['requests']} answers: {errors}")
        if not report["requests"]:
            raise RunError("no answer at all")
        return Run(**report)


@dataclass(frozen=True)
class Run:
    """The figures of wrk."""

    requests: int
    seconds: float
    p50_us: float
    p99_us: float
