"""The check scripts: the algorithm files and `check.lua`, put together once, from the files beside this one."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files


def check_script(algorithms: Iterable[str]) -> str:
    """The Lua source that decides limits of these algorithms: each file as a function's body, then check.lua."""
    parts = [f"algorithms[{name!r}] = (function()\n{_source(name)}end)()\n" for name in sorted(algorithms)]
    return "local algorithms = {}\n" + "".join(parts) + _source("check")


def _source(name: str) -> str:
    return files(__name__).joinpath(f"{name}.lua").read_text(encoding="utf-8")
