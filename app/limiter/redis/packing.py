"""Packs commands in the Redis protocol (RESP), and what the script calls of all checks of a rule share.

check.lua describes the arguments of the scripts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from operator import add
from struct import Struct, pack

import msgspec

from app.limiter.keys import CLIENT_LENGTH
from app.limiter.redis.scripts import Script, algorithm_named, algorithm_number, check_batch_script, check_script
from app.rules.rule import ALGORITHMS, Limit

# Worst-case Redis time (us) of a check and of each of its limits, measured by benchmarks/worst_cases.py on slow
# machines.
CHECK_US = 3
LIMIT_US = {"token_bucket": 4, "fixed_window": 4, "sliding_window": 40, "sliding_window_counter": 4, "gcra": 4}

_double = Struct("<d").pack


def packed(*words: bytes) -> bytes:
    """Pack a command."""
    return b"*%d\r\n" % len(words) + b"".join(map(bulk, words))


def bulk(word: bytes) -> bytes:
    """Pack one word of a command."""
    return b"$%d\r\n%b\r\n" % (len(word), word)


class PackedRule(msgspec.Struct, kw_only=True, gc=False, eq=False):
    """The packed form of a rule. Packed keys and `single_call` are split where the client's part belongs.

    `work_us`: the estimated Redis time of a check. `single_call`: the call for one unit of one client, which
    script_calls.py makes at the first such check.
    """

    script: Script = None  # type: ignore[assignment]  # set by `pack`, as the others
    work_us: int = CHECK_US
    packed_keys: tuple[bytes, ...] = ()
    packed_limits: bytes = b""
    one_unit_argument: bytes = b""
    single_call: tuple[bytes, ...] = ()

    def pack(self, limits: tuple[Limit, ...], counter_names: tuple[bytes, ...]) -> None:
        """Set the parts. `counter_names`: the key suffixes of the limits' counters."""
        self.script = check_script(str(limits[0].algorithm)) if len(limits) == 1 else check_batch_script()
        self.work_us = CHECK_US + sum(LIMIT_US[str(limit.algorithm)] for limit in limits)
        self.packed_keys = _packed_keys(counter_names)
        self.packed_limits, self.one_unit_argument = _packed_limits(limits)

    def argument(self, cost: int, meaning: bytes = b"") -> bytes:
        """Return the packed script argument of a charge. `meaning` belongs to a request id."""
        return bulk(_double(cost) + self.packed_limits + meaning)


def terms_of(rule_ids: int | list[int], limits: Sequence[Limit]) -> bytes:
    """Return the terms of these limits: of one rule, or of the rule in the same place."""
    terms = [(limit.rate, limit.window, algorithm_number(str(limit.algorithm)), limit.burst) for limit in limits]
    return msgspec.msgpack.encode((rule_ids, terms))


def read_terms(terms: bytes) -> tuple[int | list[int], list[Limit]]:
    """Return what `terms_of` was given."""
    rule_ids, limits = msgspec.msgpack.decode(terms)
    return rule_ids, [Limit(rate, window, algorithm_named(number), burst) for rate, window, number, burst in limits]


def limits_in(terms: bytes) -> int:
    """Return how many limits these terms have; 0 if they are invalid."""
    try:
        ids, limits = msgspec.msgpack.decode(terms, type=tuple[int | list[int], list[tuple[int, int, int, int | None]]])
    except msgspec.MsgspecError:
        return 0
    known = all(0 < algorithm <= len(ALGORITHMS) for _, _, algorithm, _ in limits)
    return len(limits) if known and (isinstance(ids, int) or len(ids) == len(limits)) else 0


def _packed_keys(names: tuple[bytes, ...]) -> tuple[bytes, ...]:
    lengths = [b"$%d\r\n" % (CLIENT_LENGTH + len(name)) for name in names]
    starts = [b"", *(name + b"\r\n" for name in names)]
    return tuple(map(add, starts, [*lengths, b""]))


@lru_cache(maxsize=4096)  # thousands of rules have the same few limits
def _packed_limits(limits: tuple[Limit, ...]) -> tuple[bytes, bytes]:
    """Return the packed limits, and the packed argument for a charge of one unit."""
    numbers = (
        pack("<4d", each.rate, each.window_us, each.capacity, algorithm_number(str(each.algorithm))) for each in limits
    )
    packed_numbers = _double(len(limits)) + b"".join(numbers)
    return packed_numbers, bulk(_double(1) + packed_numbers)
