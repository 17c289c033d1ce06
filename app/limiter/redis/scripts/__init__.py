"""The scripts, put together once from the Lua files here: check.lua, lease.lua, lease_release.lua say how."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from app.rules.rule import ALGORITHMS

# Where the functions of check.lua and multi_limit.lua find one check: in what the script was called with, or in what
# check_batch.lua gives them.
ONE, MANY = "local keys, asked = KEYS, ARGV[2]\n", "local keys, asked = {}, nil\n"


@dataclass(frozen=True, slots=True)
class Script:
    """Lua source, and the SHA-1 by which Redis knows it once loaded, in hexadecimal."""

    sha: bytes
    source: bytes


@cache
def check_script(algorithm: str) -> Script:
    """The script that decides one check of one limit of this algorithm: a quarter cheaper than `check_batch_script`."""
    return _script(ONE, *_sources("clock", "persist", algorithm, "check"))


@cache
def check_batch_script() -> Script:
    """The script that decides checks of all kinds, one after the other."""
    decide = f"local function decide()\n{_source('check')}end\n"
    return _script(
        MANY, *_sources("clock", "persist"), _steps(), _source("multi_limit"), decide, _source("check_batch")
    )


@cache
def lease_script() -> Script:
    """The script that grants a lease, whatever the limits: a lease is rare and stands for many checks."""
    return _script(ONE, *_sources("clock", "persist"), _steps(), *_sources("multi_limit", "lease"))


@cache
def lease_release_script() -> Script:
    """The script that takes back what of a lease was not used."""
    names = ", ".join(f"'{name}'" for name in ALGORITHMS)
    return _script(f"local names = {{{names}}}\n", *_sources("clock", "refund", "lease_release"))


@cache
def permissions_script() -> Script:
    """The script that says which commands the Redis user may not run."""
    return _script(_source("permissions"))


def all_scripts() -> list[Script]:
    """Those that decide."""
    return [*map(check_script, ALGORITHMS), check_batch_script(), lease_script(), lease_release_script()]


def number(algorithm: str) -> int:
    """What the scripts know an algorithm by."""
    return ALGORITHMS.index(algorithm) + 1


def named(number: int) -> str:
    """The algorithm of that number."""
    return ALGORITHMS[number - 1]


def _script(*parts: str) -> Script:
    source = "".join(parts).encode()
    return Script(hashlib.sha1(source, usedforsecurity=False).hexdigest().encode(), source)


def _steps() -> str:
    """The steps of all algorithms, by number."""
    parts = [f"do\n{_source(name)}steps[{number(name)}] = step\nend\n" for name in ALGORITHMS]
    return "local steps = {}\n" + "".join(parts)


def _sources(*names: str) -> Iterable[str]:
    return map(_source, names)


def _source(name: str) -> str:
    return files(__name__).joinpath(f"{name}.lua").read_text(encoding="utf-8")
