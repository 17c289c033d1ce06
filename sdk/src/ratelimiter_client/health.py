"""What `client.health()` tells: whether the service decides, and what became of this process's checks."""

from __future__ import annotations

from typing import NamedTuple


class Node(NamedTuple):
    """An address of the service. `state` is "available", or "failing" while checks do not ask it."""

    url: str
    state: str
    since: float  # Unix time


class Health(NamedTuple):
    """`ok`: the service answered this call's question, which charged nothing; else `error` says why not.

    `degraded`: it answered without its Redis. `calls` of this process since its start, `undecided` of them, and those
    by `reasons`; `last_error` is that of the last one.
    """

    ok: bool
    error: str | None
    degraded: bool
    nodes: tuple[Node, ...]
    calls: int
    undecided: int
    reasons: dict[str, int]
    last_error: str | None
