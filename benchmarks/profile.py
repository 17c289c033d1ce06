"""Profile of the worker's time: `python -m benchmarks.profile` (py-spy, from the peers' environment).

Measures the pinned worker of the fast lane under the load of benchmarks.check, with allowed checks, denied ones and
batches. It runs first undisturbed, for the CPU per check, then sampled with the C frames beneath Python. Self time by
area and by function is saved in benchmarks/results/profile.json.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import redis

from benchmarks.load import Load, RunError
from benchmarks.machine import described
from benchmarks.processes import cpu_ns, kernel_ns, workers
from benchmarks.services import BENCH_BIN, SERVICES, Service, site
from benchmarks.variants import VARIANTS, Variant

RESULT = Path(__file__).parent / "results" / "profile.json"
PROFILED = {
    "allowed": VARIANTS["token_bucket"],
    "denied": VARIANTS["denied"],
    "one of a batch of 100": VARIANTS["batch of 100"],
}
SECONDS, RATE = 10, 250
FUNCTIONS = 60


def main() -> None:
    with site() as here, SERVICES["fast lane"](here) as service:
        profiles = {name: _profile(variant, service) for name, variant in PROFILED.items()}
        server = redis.Redis.from_url(here.valkey.url).info("server")["valkey_version"]
    RESULT.write_text(json.dumps(described("python -m benchmarks.profile", server) | profiles, indent=2) + "\n")
    for name, profile in profiles.items():
        sys.stdout.write(f"{name}: {profile['worker_us']} µs, of which the kernel's {profile['kernel_us']}\n")
        for row in [*profile["areas"], *profile["functions"]]:
            sys.stdout.write("{percent:5.1f} %  {us:6.2f} µs  {where}  ".format(**row) + row.get("function", "") + "\n")


def _profile(variant: Variant, service: Service) -> dict[str, Any]:
    variant.prepare(service)
    variant.load.run(service.port, seconds=2, seed=0)  # warm-up
    costs = _costs(variant.load, service)
    return costs | _shares(_sampled(variant.load, service), costs["worker_us"])


def _costs(load: Load, service: Service) -> dict[str, float]:
    """Return the microseconds of CPU per check, and the kernel's part of them."""
    (worker,) = workers(service.pid)
    used, kernel = cpu_ns([worker])[0], kernel_ns(worker)
    checks = load.run(service.port, seconds=SECONDS, seed=1).requests * load.checks_per_request
    return {
        "worker_us": round((cpu_ns([worker])[0] - used) / checks / 1000, 2),
        "kernel_us": round((kernel_ns(worker) - kernel) / checks / 1000, 2),
    }


def _sampled(load: Load, service: Service) -> Counter[str]:
    """Return how often each innermost function was sampled, as py-spy names it: `function (file)`."""
    (worker,) = workers(service.pid)
    with tempfile.NamedTemporaryFile() as output:
        options = ["--duration", str(SECONDS), "--rate", str(RATE), "--format", "raw", "--function", "--native"]
        command = [str(BENCH_BIN / "py-spy"), "record", "--pid", str(worker), "--output", output.name, *options]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as spy:
            load.run(service.port, seconds=SECONDS, seed=2)
            _, complaint = spy.communicate(timeout=60)
        if spy.returncode != 0:
            raise RunError(f"py-spy: {complaint.strip()}")
        lines = Path(output.name).read_text().splitlines()
    seen: Counter[str] = Counter()
    for stack, _, count in (line.rpartition(" ") for line in lines):
        seen[stack.rpartition(";")[2]] += int(count)
    return seen


def _shares(seen: Counter[str], worker_us: float) -> dict[str, Any]:
    """Return self time by area and by function, the highest first."""
    areas: Counter[str] = Counter()
    for frame, count in seen.items():
        areas[_area(_split(frame)[1])] += count

    def share(count: int) -> dict[str, float]:
        part = count / seen.total()
        return {"percent": round(100 * part, 2), "us": round(part * worker_us, 2)}

    return {
        "samples": seen.total(),
        "areas": [{"where": area} | share(count) for area, count in areas.most_common()],
        "functions": [
            dict(zip(("function", "where"), _split(frame), strict=True)) | share(count)
            for frame, count in seen.most_common(FUNCTIONS)
        ],
    }


def _split(frame: str) -> tuple[str, str]:
    """Split `function (file:line)` into function and file."""
    function, _, where = frame.rpartition(" (")
    return function, re.sub(r"(\.cpython-[\w-]+)?(\.so)?[\d.]*(:\d+)?\)$", "", where)


def _area(where: str) -> str:
    """Return one of our packages, another package, or a library."""
    parts = where.split("/")
    return "/".join(parts[:2]) if parts[0] == "app" else parts[0]


if __name__ == "__main__":
    try:
        main()
    except RunError as error:
        sys.exit(str(error))
