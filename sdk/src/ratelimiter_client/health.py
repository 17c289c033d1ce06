"""The result of `client.health()`: whether the service decides, and the counts of this process's checks."""

from __future__ import annotations

from typing import NamedTuple


class Node(NamedTuple):
    """An address of the service. `state` is "available", or "failing" while the breaker is open."""

    url: str
    state: str
    since: float  # Unix time


class Health(NamedTuple):
    """`ok`: the service answered this call's check, which charged nothing; otherwise `error` says why not.

    `degraded`: it answered without its Redis. `calls`: made by this process since its start; `undecided`: those without
    a decision, and `reasons` counts them by reason. `last_error` is that of the last undecided one.
    """

    ok: bool
    error: str | None
    degraded: bool
    nodes: tuple[Node, ...]
    calls: int
    undecided: int
    reasons: dict[str, int]
    last_error: str | None
