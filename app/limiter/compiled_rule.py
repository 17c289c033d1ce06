"""A rule made ready for the hot path: whatever is the same for every check of it is computed once."""

from __future__ import annotations

from functools import lru_cache
from itertools import count
from operator import add
from struct import Struct, pack

import msgspec
from msgspec.structs import replace

from app.limiter.keys import CLIENT_LENGTH, counter_names
from app.limiter.redis.resp import bulk
from app.limiter.redis.scripts import Script, check_batch_script, check_script, named, number
from app.observability.metrics import RULE_COUNTS
from app.observability.rule_counts import Counts
from app.rules.rule import ALGORITHMS, Limit, Rule

# What a check may take Redis at worst, and each of its limits: measured by benchmarks/worst_cases.py, on slow machines.
CHECK_US = 3
LIMIT_US = {"token_bucket": 4, "fixed_window": 4, "sliding_window": 40, "sliding_window_counter": 4, "gcra": 4}

_double = Struct("<d").pack
_numbers = count()


class CompiledRule(msgspec.Struct, gc=False, eq=False):
    """How Redis is asked about one rule, and where its decisions are counted. The limits' algorithms are resolved.

    Of thousands few are in the processor's caches: what plans can share they share, and the rest lies close together.
    `gc=False`, and no part is tracked either: to look for garbage among 100,000 plans would take 80 ms.
    """

    rule: Rule
    counts: Counts = None  # type: ignore[assignment]  # by default those of the rule
    charges: bool = True
    names: tuple[bytes, ...] = ()
    work_us: int = CHECK_US
    script: Script = None  # type: ignore[assignment]
    keys: tuple[bytes, ...] = ()
    packed_limits: bytes = b""
    one_unit: bytes = b""
    number: int = 0  # no other plan of this process has it
    # The call for one unit of one client, cut where the client's part belongs: made and kept by script_calls.py.
    alone: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        rule = self.rule
        self.number = next(_numbers)
        self.charges = rule.action == "limit"
        self.names = counter_names(rule)
        self.work_us = CHECK_US + sum(LIMIT_US[str(limit.algorithm)] for limit in rule.limits)
        self.counts = self.counts or RULE_COUNTS.of(rule.id)
        self.script = check_script(str(rule.limits[0].algorithm)) if len(rule.limits) == 1 else check_batch_script()
        self.keys = _cut(self.names)
        self.packed_limits, self.one_unit = _packed(rule.limits)

    def asked(self, cost: int, meaning: bytes = b"") -> bytes:
        """Packed, what a charge of this plan asks of its script. `meaning`: of a request id."""
        return bulk(_double(cost) + self.packed_limits + meaning)

    @property
    def terms(self) -> bytes:
        """What an answer says of the rule and its limits: kept with it under a request id."""
        limits = [(limit.rate, limit.window, number(str(limit.algorithm)), limit.burst) for limit in self.rule.limits]
        return msgspec.msgpack.encode((self.rule.id, limits))

    def as_of(self, terms: bytes) -> CompiledRule:
        """As it would be with these terms, which the rule, or another in its place, had earlier."""
        return _as_of(self, terms)


@lru_cache(maxsize=1024)  # each has templates of its answers
def _as_of(compiled: CompiledRule, terms: bytes) -> CompiledRule:
    rule_id, limits = msgspec.msgpack.decode(terms)
    found = (Limit(rate, window, named(algorithm), burst) for rate, window, algorithm, burst in limits)
    return CompiledRule(replace(compiled.rule, id=rule_id, limits=tuple(found)), compiled.counts)


def limits_in(terms: bytes) -> int:
    """How many limits these terms are of; 0 where they are none."""
    try:
        _, limits = msgspec.msgpack.decode(terms, type=tuple[int, list[tuple[int, int, int, int | None]]])
    except msgspec.MsgspecError:
        return 0
    known = all(0 < algorithm <= len(ALGORITHMS) for _, _, algorithm, _ in limits)
    return len(limits) if known else 0


class ChargeRecord(msgspec.Struct, frozen=True, gc=False):
    """What a charge is kept under: `name` is the client's one more key, `meaning` what the script is told of it.

    That is a request id, what check it stands for and by which terms; or with a `script` of leases a lease, and how
    long it lasts. Such a charge makes its trip alone.
    """

    name: bytes
    meaning: bytes = b""
    script: Script | None = None


class Charge(msgspec.Struct, frozen=True, gc=False):
    """Asks to consume `cost` units of every limit of a plan's rule, or of none, for one client."""

    compiled: CompiledRule
    client: bytes
    cost: int
    record: ChargeRecord | None = None


def _cut(names: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The keys of those names, packed, cut where the client's part belongs."""
    lengths = [b"$%d\r\n" % (CLIENT_LENGTH + len(name)) for name in names]
    starts = [b"", *(name + b"\r\n" for name in names)]
    return tuple(map(add, starts, [*lengths, b""]))


@lru_cache(maxsize=4096)  # thousands of rules have the same few limits
def _packed(limits: tuple[Limit, ...]) -> tuple[bytes, bytes]:
    """The limits, packed, and what a charge of one unit asks of them."""
    numbers = (pack("<4d", each.rate, each.window_us, each.capacity, number(str(each.algorithm))) for each in limits)
    packed = _double(len(limits)) + b"".join(numbers)
    return packed, bulk(_double(1) + packed)
