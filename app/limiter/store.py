"""Protocols between the decision, Redis and the rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from app.limiter.compiled_rule import Charge
from app.limiter.decision import Outcome
from app.limiter.errors import StoreError
from app.limiter.joint.parts import Part, PartOutcome
from app.rules.rule import Rule
from app.rules.rule_book import RuleBook


class RuleSource(Protocol):
    """Provides the current rules; None while none are known."""

    @property
    def book(self) -> RuleBook | None: ...


class Store(Protocol):
    """Decides charges in order, each with its outcome or its own error. Raises StoreError if the call failed."""

    def check(self, charges: Sequence[Charge]) -> list[Outcome | StoreError]: ...


class PartStore(Store, Protocol):
    """`spans`: counters of one decision may lie on several servers.

    `decide` calls one script for each part, in order, in one round trip to each server.
    """

    spans: bool

    def decide(self, parts: Sequence[Part]) -> list[PartOutcome | StoreError]: ...


class CommandSender(Protocol):
    """Sends commands off the path of checks, each a tuple of words. Raises StoreError if any failed."""

    def send(self, commands: Sequence[tuple[bytes, ...]], operation: str) -> list[Any]: ...


class CounterStore(Store, CommandSender, Protocol):
    """Decides checks and sends commands."""


class CleanedStore(CommandSender, Protocol):
    """`servers`: those that together have all keys."""

    def servers(self) -> Sequence[CommandSender]: ...


class InspectedServer(Protocol):
    """One server. An error reply is a value among its answers."""

    def answers(self, commands: Sequence[bytes], operation: str) -> list[Any]: ...

    def drop(self) -> None: ...


class InspectedStore(CommandSender, Protocol):
    """`servers`: those that together have all keys."""

    def servers(self) -> Sequence[InspectedServer]: ...


class ProbedStore(Store, Protocol):
    """`trouble`: why checks cannot be decided; None if they can. `probes`: a check of each server, charging nothing."""

    def trouble(self) -> StoreError | None: ...

    def probes(self) -> list[Charge]: ...


class DenialCounter(Protocol):
    """Counts a denial, in memory only: on the path of a check."""

    def denied(self, tenant_id: int, client_id: str, rule: Rule) -> None: ...


class DenialKeys(Protocol):
    """Returns the Redis keys that hold a tenant's denials."""

    def keys(self, tenant_id: int) -> list[bytes]: ...
