"""The variants to measure: each a service under a load."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from app.rules.rule import ALGORITHMS
from benchmarks.load import Load, RunError
from benchmarks.services import Service

ALLOWED = {"allowed": True, "degraded": False}  # decided by Redis
DENIED = {"allowed": False, "degraded": False, "reason": "over_limit"}
PEER = {"allowed": True}
PREPARED_AT_ONCE = 1_000


@dataclass(frozen=True)
class Variant:
    """`charged`: the units charged to every client of the load before the first run."""

    service: str
    load: Load
    charged: int = 0

    def prepare(self, service: Service) -> None:
        """Charge the clients if the variant needs it, and check one answer. Raises RunError."""
        for first in range(0, self.load.clients if self.charged else 0, PREPARED_AT_ONCE):
            clients = range(first, min(first + PREPARED_AT_ONCE, self.load.clients))
            charge = {"limit_key": self.load.limit_key, "cost": self.charged}
            checks = [charge | {"client_id": f"user_{number}"} for number in clients]
            service.ask("POST", "/v1/check/batch", json={"checks": checks}).raise_for_status()
        for decision in self._answers(service):
            if not self.load.wanted.items() <= decision.items():
                raise RunError(f"{self.load.wanted} was wanted, the answer is {decision}")

    def _answers(self, service: Service) -> Iterator[dict[str, object]]:
        check = {"client_id": "user_0", "limit_key": self.load.limit_key}
        if self.load.kind == "batch":
            answer = service.ask("POST", "/v1/check/batch", json={"checks": [check]})
        elif self.load.kind == "query":
            answer = service.ask("GET", "/v1/check", params=check)
        else:
            answer = service.ask("POST", "/v1/check", json=check)
        answer.raise_for_status()
        if self.load.wanted:
            yield from answer.json().get("results", [answer.json()])


def _ours(service: str, load: Load) -> Variant:
    """Return a variant in which every counter outlives the benchmark: its bucket takes more than a day to refill."""
    return Variant(service, load, charged=1_000)


VARIANTS = {
    **{name: _ours("fast lane", Load(ALLOWED, limit_key=name)) for name in ALGORITHMS},
    "new correlation ids": _ours("fast lane", Load(ALLOWED, "correlated")),
    "batch of 100": _ours("fast lane", Load(ALLOWED, "batch")),
    "denied": Variant("fast lane", Load(DENIED, limit_key="denied", clients=100), charged=1),
    "fast lane off": _ours("fast lane off", Load(ALLOWED)),
    "2 workers": _ours("2 workers", Load(ALLOWED)),
    "1,000 clients": _ours("fast lane", Load(ALLOWED, clients=1_000)),
    "1,000,000 clients": _ours("own Redis", Load(ALLOWED, clients=1_000_000)),
    "in a cluster": _ours("cluster", Load(ALLOWED)),
    "batch of 100, in a cluster": _ours("cluster", Load(ALLOWED, "batch")),
    "1 rule": _ours("1 rule", Load(ALLOWED)),
    "10,000 rules": _ours("10,000 rules", Load(ALLOWED)),
    "seed's stack": Variant("seed", Load(PEER)),
    "flask-limiter": Variant("flask-limiter", Load(PEER)),
    "rate-limiter-flexible": Variant("Node", Load(PEER)),
    "rate-limiter-flexible, autopipelining": Variant("Node, autopipelining", Load(PEER)),
    "gunicorn hello": Variant("hello", Load(PEER)),
    "nginx limit_req": Variant("nginx", Load({}, "query")),
}
