"""Assembles the scripts from the Lua files here; check.lua, lease.lua and lease_release.lua say how."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from app.rules.rule import ALGORITHMS

# Where the functions of check.lua and multi_limit.lua find one check: in the script's arguments, or in the variables
# that check_batch.lua sets.
ONE, MANY = "local keys, request = KEYS, ARGV[2]\n", "local keys, request = {}, nil\n"


@dataclass(frozen=True, slots=True)
class Script:
    """Lua source, and its SHA-1 in hexadecimal, by which Redis knows the loaded script."""

    sha: bytes
    source: bytes


@cache
def check_script(algorithm: str) -> Script:
    """Return the script for one check of one limit of this algorithm, a quarter cheaper than `check_batch_script`."""
    return _script(ONE, *_sources("clock", "persist"), _step(algorithm), _source("check"))


@cache
def check_batch_script() -> Script:
    """Return the script that decides checks of all kinds, one after the other."""
    decide = f"local function decide()\n{_source('check')}end\n"
    return _script(
        MANY, *_sources("clock", "persist"), _steps(), _source("multi_limit"), decide, _source("check_batch")
    )


@cache
def check_joint_script() -> Script:
    """Return the script for one check of several limits, a third cheaper than `check_batch_script`."""
    return _script(ONE, *_sources("clock", "persist"), _steps(), *_sources("multi_limit", "check"))


@cache
def lease_script() -> Script:
    """Return the script that grants a lease, for all limits: leases are rare and each stands for many checks."""
    return _script(ONE, *_sources("clock", "persist"), _steps(), *_sources("multi_limit", "lease"))


@cache
def lease_release_script() -> Script:
    """Return the script that refunds the unused permits of a lease."""
    return _script(_names(), *_sources("clock", "refund", "lease_release"))


@cache
def check_together_script() -> Script:
    """Return the script that decides charges together: all are charged, or none."""
    decide = _sources("multi_limit", "request_ids", "check_together")
    return _script(MANY, *_sources("clock", "persist"), _steps(), *decide)


@cache
def give_back_script() -> Script:
    """Return the script that gives back what the last script charged."""
    return _script(_names(), *_sources("clock", "refund", "give_back"))


@cache
def finish_script() -> Script:
    """Return the script that stores the answer of a request id, once its charge is finished in all slots."""
    return _script(_source("finish"))


@cache
def permissions_script() -> Script:
    """Return the script that lists the commands that the Redis user may not run."""
    return _script(_source("permissions"))


def all_scripts() -> list[Script]:
    """Return the scripts that decide."""
    checks = [*map(check_script, ALGORITHMS), check_joint_script(), check_batch_script(), check_together_script()]
    return [*checks, give_back_script(), finish_script(), lease_script(), lease_release_script()]


def algorithm_number(algorithm: str) -> int:
    """Return the number of an algorithm in the scripts."""
    return ALGORITHMS.index(algorithm) + 1


def algorithm_named(number: int) -> str:
    """Return the algorithm of that number."""
    return ALGORITHMS[number - 1]


def _script(*parts: str) -> Script:
    source = "".join(parts).encode()
    return Script(hashlib.sha1(source, usedforsecurity=False).hexdigest().encode(), source)


def _names() -> str:
    """Return Lua source for the names of all algorithms, by number."""
    names = ", ".join(f"'{name}'" for name in ALGORITHMS)
    return f"local names = {{{names}}}\n"


def _steps() -> str:
    """Return Lua source for the steps of all algorithms, by number."""
    parts = [f"do\n{_step(name)}steps[{algorithm_number(name)}] = step\nend\n" for name in ALGORITHMS]
    return "local steps = {}\n" + "".join(parts)


def _step(algorithm: str) -> str:
    return _source(f"algorithms/{algorithm}")


def _sources(*names: str) -> Iterable[str]:
    return map(_source, names)


def _source(name: str) -> str:
    return files(__name__).joinpath(f"{name}.lua").read_text(encoding="utf-8")
