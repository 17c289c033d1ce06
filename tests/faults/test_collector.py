"""The collector of traces is a black hole (row 26 of the fault matrix)."""

from __future__ import annotations

import socket
import threading

import pytest

from app.embedded import Valkey
from tests.faults.conftest import StartNode
from tests.support.faults import Figures
from tests.support.load import Load, percentile
from tests.support.processes import resident_bytes

SECONDS = 3


@pytest.mark.fault(26, "the collector of traces accepts connections and never answers; every check is traced")
def test_a_black_hole_for_traces_is_no_matter_to_checks(
    valkey: Valkey, start_node: StartNode, measured: Figures
) -> None:
    """No check fails, waits or degrades for it; the spans that wait are bounded, and the node stops in time."""
    with socket.create_server(("127.0.0.1", 0)) as collector:
        traced = {"JAEGER_ENABLED": "true", "JAEGER_PORT": collector.getsockname()[1]}
        rates = {}
        for name, settings in {"without traces": {}, "with": traced | {"OTEL_TRACES_SAMPLER": "always_on"}}.items():
            node = start_node(valkey.url, **settings)
            node.put_rule(client_id=f"traced {name}", rate=1_000_000, window=3600)
            memory = sum(map(resident_bytes, node.workers))
            with Load([node], {"client_id": f"traced {name}"}, width=4) as load:
                assert not threading.Event().wait(SECONDS)
            measured[f"p50 {name}, ms"] = round(percentile([answer.seconds for answer in load.answers], 50) * 1e3, 1)
            measured[f"p99 {name}, ms"] = round(percentile([answer.seconds for answer in load.answers], 99) * 1e3, 1)
            rates[name] = len(load.answers)
            assert load.errors == []
            assert load.statuses == {200}
            assert not any(decision["degraded"] for decision in load.decisions())
        measured["memory grew by, MiB"] = round((sum(map(resident_bytes, node.workers)) - memory) / 1024**2, 1)
        measured["checks"] = rates["with"]
        assert measured["memory grew by, MiB"] < 60
        node.stop()  # within its half minute
