"""How soon every worker of every node decides by a change."""

from __future__ import annotations

import statistics
import time

from tests.support.faults import Figures
from tests.support.load import percentile
from tests.support.node import Node

VERSION = "SELECT version FROM rule_book"


def slowest(nodes: list[Node]) -> int:
    """The version that the slowest worker of all nodes decides by."""
    return int(min(node.metric("ratelimiter_rules_version") for node in nodes))


def seconds_until(nodes: list[Node], version: int) -> float:
    """How long, from now, until every worker decides by this version."""
    began = time.monotonic()
    assert nodes[0].eventually(lambda: slowest(nodes) >= version), "the workers did not follow the change"
    return time.monotonic() - began


def soon(seconds: list[float], what: str = "everywhere after") -> Figures:
    """The figures of changes that took so long to be everywhere."""
    return {
        f"{what}, p50 ms": round(statistics.median(seconds) * 1e3),
        f"{what}, p99 ms": round(percentile(seconds, 99) * 1e3),
    }
