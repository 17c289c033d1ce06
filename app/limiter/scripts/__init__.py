"""The scripts, put together once from the Lua files beside this one: check.lua, lease.lua, lease_return.lua say how."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from app.rules.rule import ALGORITHMS


@dataclass(frozen=True, slots=True)
class Script:
    """Lua source, and the SHA-1 by which Redis knows it once loaded."""

    sha: str
    source: str


@cache
def check_script(algorithms: frozenset[str], *, several: bool) -> Script:
    """The script that decides one limit, or several, of these algorithms: mixtures of any kind share one."""
    if several:
        functions = _numbered(algorithms if len(algorithms) == 1 else ALGORITHMS) + _source("several")
    else:
        functions = "".join(map(_source, algorithms))
    return _script(_source("keep"), _source("clock"), functions, _source("check"))


@cache
def lease_script() -> Script:
    """The script that grants a lease, whatever the limits: a lease is rare and stands for many checks."""
    return _script(*map(_source, ("keep", "clock")), _numbered(ALGORITHMS), *map(_source, ("several", "lease")))


@cache
def return_script() -> Script:
    """The script that takes back what of a lease was not used."""
    names = ", ".join(f"'{name}'" for name in ALGORITHMS)
    return _script(f"local names = {{{names}}}\n", *map(_source, ("clock", "credits", "lease_return")))


def all_scripts() -> list[Script]:
    same = [check_script(frozenset({name}), several=several) for name in ALGORITHMS for several in (False, True)]
    return [*same, check_script(frozenset(ALGORITHMS), several=True), lease_script(), return_script()]


def number(algorithm: str) -> int:
    """What several.lua knows an algorithm by."""
    return ALGORITHMS.index(algorithm) + 1


def named(number: int) -> str:
    """The algorithm of that number."""
    return ALGORITHMS[number - 1]


def _script(*parts: str) -> Script:
    source = "".join(parts)
    return Script(hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest(), source)


def _numbered(algorithms: Iterable[str]) -> str:
    """The steps of these algorithms where several.lua finds them."""
    parts = [f"do\n{_source(name)}steps[{number(name)}] = step\nend\n" for name in algorithms]
    return "local steps = {}\n" + "".join(parts)


def _source(name: str) -> str:
    return files(__name__).joinpath(f"{name}.lua").read_text(encoding="utf-8")
