"""One call of a script: the charges that it decides, packed, and its answer, read. check.lua describes both."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Generic, NamedTuple, TypeVar

from app.limiter.decision import EarlierOutcome, LeaseOutcome, Outcome
from app.limiter.errors import RequestIdConflict, StoreError, StoreFault
from app.limiter.keys import CLIENT_LENGTH
from app.limiter.plan import Charge, limits_in
from app.limiter.resp import bulk
from app.limiter.scripts import Script, checks_script

T = TypeVar("T")

_OUTCOME, _LEASE = Struct("<2I3q"), Struct("<2I3qi")  # of a check; lease.lua says of what the other is
_outcomes = _OUTCOME.iter_unpack
ANYBODY = b"\xff" * CLIENT_LENGTH  # in place of a client; stands nowhere else in a call


NONSENSE = "the answer is none that a script of this service gives"
CALL_US = 2_000  # of Redis's time, by estimate: what a call may keep everybody else waiting


class Portion(NamedTuple, Generic[T]):
    """Things for Redis to do, and how many microseconds of it they may take."""

    items: Sequence[T]
    work_us: int


def calls_for(charges: Sequence[Charge], most: int) -> list[Portion[Charge]]:
    """The charges in order, in calls of at most so many, and of CALL_US but for a single charge that takes longer."""
    calls: list[Portion[Charge]] = []
    for start in range(0, len(charges), most):
        call = charges[start : start + most]
        calls += portions(call, [charge.plan.work_us for charge in call], CALL_US)
    return calls


def portions(items: Sequence[T], work_us: Sequence[int], most_us: int) -> list[Portion[T]]:
    """The items in order, in portions of at most so much work, but for a single item that is more."""
    total = sum(work_us)
    if total <= most_us:  # nearly always
        return [Portion(items, total)]
    found: list[Portion[T]] = []
    begun, total = 0, 0
    for place, work in enumerate(work_us):
        if place > begun and total + work > most_us:
            found.append(Portion(items[begun:place], total))
            begun, total = place, 0
        total += work
    return [*found, Portion(items[begun:], total)]


def packed_call(charges: Sequence[Charge], now_us: int | None = None) -> bytes:
    """The EVALSHA that decides charges in order. Without `now_us`, Redis's clock decides."""
    charge = charges[0]
    if len(charges) == 1 and charge.cost == 1 and charge.once is None and now_us is None:  # most that come alone
        plan = charge.plan
        plan.alone = plan.alone or _packed([Charge(plan, ANYBODY, 1)], None).split(ANYBODY)
        return charge.client.join(plan.alone)
    return _packed(charges, now_us)


def _packed(charges: Sequence[Charge], now_us: int | None) -> bytes:
    keys, asked = [], []
    for charge in charges:
        plan, once = charge.plan, charge.once
        keys.append(charge.client.join(plan.keys))
        if once is None:
            asked.append(plan.one_unit if charge.cost == 1 else plan.asked(charge.cost))  # most cost 1
            continue
        keys.append(bulk(charge.client + once.name))
        if once.script is None:
            asked.append(plan.asked(charge.cost, once.meaning))
        else:
            asked += plan.asked(charge.cost), bulk(once.meaning)
    packed_keys, now = b"".join(keys), b"" if now_us is None else b"%d" % now_us
    count = packed_keys.count(b"$")  # one in front of each key, and none in any
    head = b"*%d\r\n$7\r\nEVALSHA\r\n" % (4 + count + len(asked))
    return b"".join((head, bulk(_script(charges).sha), bulk(b"%d" % count), packed_keys, bulk(now), *asked))


def _script(charges: Sequence[Charge]) -> Script:
    if len(charges) > 1:
        return checks_script()
    once = charges[0].once
    return once.script if once is not None and once.script is not None else charges[0].plan.script


def read_reply(reply: bytes, charges: Sequence[Charge]) -> list[Outcome | StoreError]:
    """The outcomes of charges that were decided in one call. What no script of ours says is a StoreFault."""
    if len(reply) == _OUTCOME.size * len(charges):
        return [
            Outcome(wait_us == 0, binding - 1, remaining, wait_us if wait_us >= 0 else None, reset_after_us, now_us)
            if (binding == 1 or 0 < binding <= len(charge.plan.names)) and reset_after_us >= 0 < now_us
            else StoreFault(NONSENSE)
            for charge, (binding, remaining, wait_us, reset_after_us, now_us) in zip(
                charges, _outcomes(reply), strict=True
            )
        ]
    return [read_part(reply, charges[0]) if len(charges) == 1 else StoreFault(NONSENSE)] * len(charges)


def read_part(reply: bytes, charge: Charge) -> Outcome | StoreError:
    """The outcome of one charge, also where it is not what a check found just now."""
    if not reply:
        return RequestIdConflict("the request_id was used for a check with another limit_key or cost")
    if len(reply) == _OUTCOME.size:
        return read_reply(reply, [charge])[0]
    if len(reply) == _LEASE.size and charge.once is not None and charge.once.script is not None:
        binding, remaining, wait_us, reset_after_us, now_us, permits = _LEASE.unpack(reply)
        if 0 < binding <= len(charge.plan.names) and reset_after_us >= 0 < now_us:
            return LeaseOutcome(wait_us == 0, binding - 1, remaining, wait_us, reset_after_us, now_us, permits)
    elif len(reply) > _OUTCOME.size:
        binding, remaining, wait_us, reset_after_us, now_us = _OUTCOME.unpack(reply[: _OUTCOME.size])
        terms = reply[_OUTCOME.size :]
        if 0 < binding <= limits_in(terms) and reset_after_us >= 0 < now_us:
            return EarlierOutcome(True, binding - 1, remaining, wait_us, reset_after_us, now_us, terms)
    return StoreFault(NONSENSE)
