"""A rule compiled for the hot path: everything that is the same for all its checks is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import msgspec

from app.limiter.keys import counter_names
from app.limiter.redis.packing import PackedRule, terms_of
from app.limiter.redis.scripts import Script
from app.observability.metrics import RULE_COUNTS
from app.observability.rule_counts import Counts
from app.rules.rule import Rule

_numbers = count()


class CompiledRule(PackedRule, gc=False, eq=False):
    """A rule with its packed form for Redis, and where its decisions are counted. The limits' algorithms are resolved.

    The CPU caches hold only a few of thousands of compiled rules. So these share parts where possible, and the rest
    lies close together. `gc=False`, and no part is tracked either: a garbage collection over 100,000 of them would take
    80 ms.
    """

    rule: Rule
    counts: Counts = None  # type: ignore[assignment]  # by default those of the rule
    counts_units: bool = True
    counter_names: tuple[bytes, ...] = ()  # the key suffixes of its counters
    number: int = 0  # unique among the compiled rules of this process

    def __post_init__(self) -> None:
        rule = self.rule
        self.number = next(_numbers)
        self.counts_units = rule.action == "limit"
        self.counter_names = counter_names(rule)
        self.counts = self.counts or RULE_COUNTS.of(rule.id)
        self.pack(rule.limits, self.counter_names)

    def keys_of(self, owners: Sequence[bytes]) -> bytes:
        """Return the packed keys of the counters of these owners, as in Charge."""
        return owners[0].join(self.packed_keys)

    @property
    def terms(self) -> bytes:
        """The rule id and limits that an answer depends on, stored with it under a request id."""
        return terms_of(self.rule.id, self.rule.limits)


class ChargeRecord(msgspec.Struct, frozen=True, gc=False):
    """The record that a charge writes: `name` is the client's additional key, `meaning` the script argument for it.

    For a request id, `meaning` says which check it stands for and its terms. With a lease `script`, the record is a
    lease and `meaning` is its duration. A charge with a `script` is sent as a call of its own.
    """

    name: bytes
    meaning: bytes = b""
    script: Script | None = None


class Charge(msgspec.Struct, frozen=True, gc=False):
    """Asks to consume `cost` units of every limit of a rule, or of none, for one client.

    `owners`: the prefixes of the counters, if some are not the client's own. The first is the client's.
    """

    compiled: CompiledRule
    client: bytes
    cost: int
    record: ChargeRecord | None = None
    owners: tuple[bytes, ...] = ()
