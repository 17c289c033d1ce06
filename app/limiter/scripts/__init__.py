"""The check scripts, put together once from the Lua files beside this one: `check.lua` says how."""

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
    source = _source("keep") + functions + _source("check")
    return Script(hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest(), source)


def all_scripts() -> list[Script]:
    same = [check_script(frozenset({name}), several=several) for name in ALGORITHMS for several in (False, True)]
    return [*same, check_script(frozenset(ALGORITHMS), several=True)]


def number(algorithm: str) -> int:
    """What several.lua knows an algorithm by."""
    return ALGORITHMS.index(algorithm) + 1


def _numbered(algorithms: Iterable[str]) -> str:
    """The steps of these algorithms where several.lua finds them."""
    parts = [f"do\n{_source(name)}steps[{number(name)}] = step\nend\n" for name in algorithms]
    return "local steps = {}\n" + "".join(parts)


def _source(name: str) -> str:
    return files(__name__).joinpath(f"{name}.lua").read_text(encoding="utf-8")
