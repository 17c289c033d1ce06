"""Charges of several rules, with counters of a client's own and shared ones, and what lies in their counters."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence

import redis

from app.limiter.compiled_rule import Charge, ChargeRecord, CompiledRule
from app.limiter.denial_cache import DenialCache
from app.limiter.fallback.fallback import Fallback
from app.limiter.fallback.fallback_log import FallbackLog
from app.limiter.fallback.local_store import LocalStore
from app.limiter.joint.joint_rule import joined
from app.limiter.joint.placement import prefixes
from app.limiter.keys import answer_name, meaning, slot
from app.rules.rule import Limit, Rule
from tests.support.deciders import new_client
from tests.support.limiters import breaker_of


def compiled(rule_id: int, *limits: Limit, **fields: object) -> CompiledRule:
    numbered = tuple(Limit(each.rate, each.window, each.algorithm, each.burst, n) for n, each in enumerate(limits))
    return CompiledRule(Rule(id=rule_id, client_id="*", limits=numbered, **fields))  # type: ignore[arg-type]


def apart(number: int, taken: Sequence[bytes] = ()) -> list[bytes]:
    """Prefixes that nobody else has, each in a slot of its own."""
    found = list(taken)
    while len(found) < len(taken) + number:
        prefix = new_client()
        if slot(prefix) not in map(slot, found):
            found.append(prefix)
    return found[len(taken) :]


def charge(
    client: bytes, *owned: tuple[CompiledRule, bytes], cost: int = 1, request_id: str | None = None, key: str = "key"
) -> Charge:
    """Of these rules, each with the owner of its counters."""
    owners = tuple(dict.fromkeys((client, *(owner for _, owner in owned))))
    rule = joined([each for each, _ in owned], [owners.index(owner) for _, owner in owned])
    record = None
    if request_id is not None:
        record = ChargeRecord(answer_name(request_id, shadow=False), meaning(key, cost) + rule.terms)
    return Charge(rule, client, cost, record, owners)


def fallback_of(fail_mode: str = "open") -> Fallback:
    """Of one worker of four, with nothing remembered."""
    return Fallback(
        local=LocalStore(holders=4),
        breaker=breaker_of(),
        denials=DenialCache(time.monotonic),
        fail_mode=fail_mode,
        fallback_log=FallbackLog(time.monotonic),
        clock=time.time,
    )


def counters(charged: Charge) -> list[bytes]:
    """The keys, by limit."""
    return [prefix + name for prefix, name in zip(prefixes(charged), charged.compiled.counter_names, strict=True)]


def used(client: redis.Redis, key: bytes) -> int:
    """Units in a counter, as it stands in Redis: of a fixed window or a log, all of one window."""
    return int(units(key, client.execute_command("GET", key, NEVER_DECODE=True), window=3600))


def units(key: bytes, state: bytes | None, window: int) -> float:
    """Units in a counter of that state. Of a bucket: when it was last charged, in fractions; of a sliding window
    counter: in both of its windows (seconds).
    """
    if not state:
        return 0
    if key.endswith(b"F"):
        return float(struct.unpack("<Id", state)[0])
    if key.endswith(b"W"):
        return float(struct.unpack("<d", state[-8:])[0] - struct.unpack("<d", state[8:16])[0])
    if key.endswith(b"C"):
        return float(sum(struct.unpack("<III", state)[1:]))
    return float(struct.unpack("<dd", state)[0] / (window * 1_000_000))
