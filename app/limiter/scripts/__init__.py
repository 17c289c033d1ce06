"""The check scripts: the algorithm files and `check.lua`, put together once, from the files beside this one."""

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
def check_script(algorithms: frozenset[str]) -> Script:
    """The script that decides limits of these algorithms: its own for each single one, one for all mixtures."""
    names = algorithms if len(algorithms) == 1 else ALGORITHMS
    source = _composed(names)
    return Script(hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest(), source)


def all_scripts() -> list[Script]:
    return [*(check_script(frozenset({name})) for name in ALGORITHMS), check_script(frozenset(ALGORITHMS))]


def _composed(algorithms: Iterable[str]) -> str:
    """Each algorithm's file as the body of a function, then check.lua."""
    parts = [f"algorithms[{name!r}] = (function()\n{_source(name)}end)()\n" for name in sorted(algorithms)]
    return "local algorithms = {}\n" + "".join(parts) + _source("check")


def _source(name: str) -> str:
    return files(__name__).joinpath(f"{name}.lua").read_text(encoding="utf-8")
