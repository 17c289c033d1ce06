"""What a result was measured on."""

from __future__ import annotations

import datetime
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("gunicorn", "gevent", "flask", "hiredis", "msgspec")


def described(command: str, valkey: str) -> dict[str, Any]:
    """The head of a saved result: date, command, processor, versions."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command,
        "cpu": _cpu(),
        "python": platform.python_version(),
        "valkey": valkey,
        "packages": {name: version(name) for name in PACKAGES},
    }


def _cpu() -> str:
    """The processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
