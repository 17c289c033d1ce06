"""The environment of a measurement."""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.services import BENCH_BIN, PEERS, UnavailableError, program

PACKAGES = ("gunicorn", "gevent", "flask", "hiredis", "msgspec")
PEER_PACKAGES = (
    *("fastapi", "pydantic", "uvicorn", "uvloop", "httptools", "prometheus-client", "redis", "hiredis"),
    *("flask-limiter", "limits", "flask", "gunicorn", "gevent"),
)


def described(command: str, valkey: str) -> dict[str, Any]:
    """Return the head of a saved result: date, command, processor, versions."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command,
        "cpu": _cpu(),
        "python": platform.python_version(),
        "valkey": valkey,
        "packages": {name: version(name) for name in PACKAGES},
    }


def peers() -> dict[str, Any]:
    """Return the versions of the peers and of the load generator; None for a missing program."""
    versions = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    node_packages = json.loads((PEERS / "node" / "package.json").read_text())["dependencies"]
    return {
        "peers": json.loads(_output(str(BENCH_BIN / "python"), "-c", versions, *PEER_PACKAGES) or "{}") | node_packages,
        "node": _version("node", "--version"),
        "nginx": _version("nginx", "-v"),
        "wrk": _version("wrk", "-v"),
    }


def _version(name: str, option: str) -> str | None:
    """Return the version number in the program's own output."""
    try:
        words = _output(program(name), option).split()
    except UnavailableError:
        return None
    numbered = (word for word in words if any(character.isdigit() for character in word))
    return next((word.rpartition("/")[2].removeprefix("v") for word in numbered), None)


def _output(*command: str) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout


def _cpu() -> str:
    """Return the processor's name, as far as the system reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
