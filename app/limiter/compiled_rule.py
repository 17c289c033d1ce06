"""A rule compiled for the hot path: everything that is the same for all its checks is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import count
from operator import add
from struct import Struct, pack

import msgspec

from app.limiter.keys import CLIENT_LENGTH, counter_names
from app.limiter.redis.resp import bulk
from app.limiter.redis.scripts import Script, check_batch_script, check_script, number
from app.observability.metrics import RULE_COUNTS
from app.observability.rule_counts import Counts
from app.rules.rule import ALGORITHMS, Limit, Rule

# Worst-case Redis time (us) of a check and of each of its limits, measured by benchmarks/worst_cases.py on slow
# machines.
CHECK_US = 3
LIMIT_US = {"token_bucket": 4, "fixed_window": 4, "sliding_window": 40, "sliding_window_counter": 4, "gcra": 4}

_double = Struct("<d").pack
_numbers = count()


class CompiledRule(msgspec.Struct, gc=False, eq=False):
    """How to ask Redis about one rule, and where its decisions are counted. The limits' algorithms are resolved.

    The CPU caches hold only a few of thousands of compiled rules. So these share parts where possible, and the rest
    lies close together. `gc=False`, and no part is tracked either: a garbage collection over 100,000 of them would take
    80 ms.
    """

    rule: Rule
    counts: Counts = None  # type: ignore[assignment]  # by default those of the rule
    counts_units: bool = True
    names: tuple[bytes, ...] = ()
    work_us: int = CHECK_US
    script: Script = None  # type: ignore[assignment]
    keys: tuple[bytes, ...] = ()
    packed_limits: bytes = b""
    one_unit: bytes = b""
    number: int = 0  # unique among the compiled rules of this process
    # The call for one unit of one client, split where the client's part belongs; script_calls.py makes and keeps it.
    alone: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        rule = self.rule
        self.number = next(_numbers)
        self.counts_units = rule.action == "limit"
        self.names = counter_names(rule)
        self.work_us = CHECK_US + sum(LIMIT_US[str(limit.algorithm)] for limit in rule.limits)
        self.counts = self.counts or RULE_COUNTS.of(rule.id)
        self.script = check_script(str(rule.limits[0].algorithm)) if len(rule.limits) == 1 else check_batch_script()
        self.keys = _cut(self.names)
        self.packed_limits, self.one_unit = _packed(rule.limits)

    def asked(self, cost: int, meaning: bytes = b"") -> bytes:
        """Return the packed script argument of a charge. `meaning` belongs to a request id."""
        return bulk(_double(cost) + self.packed_limits + meaning)

    def keys_of(self, owners: Sequence[bytes]) -> bytes:
        """Return the packed keys of the counters of these owners, as in Charge."""
        return owners[0].join(self.keys)

    @property
    def terms(self) -> bytes:
        """The rule id and limits that an answer depends on, stored with it under a request id."""
        return packed_terms(self.rule.id, self.rule.limits)


def packed_terms(rule_ids: int | list[int], limits: Sequence[Limit]) -> bytes:
    """Return the terms of these limits: of one rule, or of the rule in the same place."""
    asked = [(limit.rate, limit.window, number(str(limit.algorithm)), limit.burst) for limit in limits]
    return msgspec.msgpack.encode((rule_ids, asked))


def limits_in(terms: bytes) -> int:
    """Return how many limits these terms have; 0 if they are invalid."""
    try:
        ids, limits = msgspec.msgpack.decode(terms, type=tuple[int | list[int], list[tuple[int, int, int, int | None]]])
    except msgspec.MsgspecError:
        return 0
    known = all(0 < algorithm <= len(ALGORITHMS) for _, _, algorithm, _ in limits)
    return len(limits) if known and (isinstance(ids, int) or len(ids) == len(limits)) else 0


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


def _cut(names: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return the packed keys of those names, split where the client's part belongs."""
    lengths = [b"$%d\r\n" % (CLIENT_LENGTH + len(name)) for name in names]
    starts = [b"", *(name + b"\r\n" for name in names)]
    return tuple(map(add, starts, [*lengths, b""]))


@lru_cache(maxsize=4096)  # thousands of rules have the same few limits
def _packed(limits: tuple[Limit, ...]) -> tuple[bytes, bytes]:
    """Return the packed limits, and the packed argument for a charge of one unit."""
    numbers = (pack("<4d", each.rate, each.window_us, each.capacity, number(str(each.algorithm))) for each in limits)
    packed = _double(len(limits)) + b"".join(numbers)
    return packed, bulk(_double(1) + packed)
