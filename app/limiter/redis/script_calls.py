"""Packs charges into script calls and reads the replies. check.lua describes both formats."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Any, NamedTuple, TypeVar

from app.limiter.compiled_rule import Charge
from app.limiter.decision import EarlierOutcome, LeaseOutcome, Outcome
from app.limiter.errors import RequestIdConflict, StoreError, StoreFault
from app.limiter.keys import CLIENT_LENGTH
from app.limiter.redis.packing import bulk, limits_in
from app.limiter.redis.scripts import Script, check_batch_script

T = TypeVar("T")

_OUTCOME, _LEASE = Struct("<2I3q"), Struct("<2I3qi")  # of a check; lease.lua describes the other
_outcomes = _OUTCOME.iter_unpack
ANYBODY = b"\xff" * CLIENT_LENGTH  # placeholder of a client; occurs nowhere else in a call


NONSENSE = "the answer is not one of this service's scripts"
CALL_US = 2_000  # estimated Redis time of a call, during which all other clients of Redis wait


class RoundTrip(NamedTuple):
    """Charges grouped by call, and the estimated Redis time of all calls in microseconds."""

    calls: Sequence[Sequence[Charge]]
    work_us: int


def round_trips(charges: Sequence[Charge], most: int, round_trip_us: int) -> list[RoundTrip]:
    """Group the charges in order: calls of at most `most` charges and CALL_US, round trips of at most `round_trip_us`.

    A single charge beyond a bound has a call, and a round trip, of its own.
    """
    work = [charge.compiled.work_us for charge in charges]
    if (total := sum(work)) <= CALL_US:  # the common case
        return [RoundTrip([charges[start : start + most] for start in range(0, len(charges), most)], total)]
    calls = _grouped(charges, work, CALL_US, most)
    spent = [sum(charge.compiled.work_us for charge in call) for call in calls]
    grouped = _grouped(list(zip(calls, spent, strict=True)), spent, round_trip_us, len(calls))
    return [
        RoundTrip([call for call, _ in round_trip], sum(work_us for _, work_us in round_trip)) for round_trip in grouped
    ]


def _grouped(items: Sequence[T], work_us: Sequence[int], most_us: int, most: int) -> list[Sequence[T]]:
    groups: list[Sequence[T]] = []
    begun, total = 0, 0
    for place, work in enumerate(work_us):
        if place > begun and (total + work > most_us or place - begun == most):
            groups.append(items[begun:place])
            begun, total = place, 0
        total += work
    return [*groups, items[begun:]]


def packed_call(charges: Sequence[Charge], now_us: int | None = None) -> bytes:
    """Return the EVALSHA that decides the charges in order. Without `now_us`, Redis's clock decides."""
    charge = charges[0]
    if len(charges) == 1 and charge.cost == 1 and charge.record is None and now_us is None and not charge.owners:
        compiled = charge.compiled  # the common single check
        compiled.single_call = compiled.single_call or tuple(
            _packed([Charge(compiled, ANYBODY, 1)], None).split(ANYBODY)
        )
        return charge.client.join(compiled.single_call)
    return _packed(charges, now_us)


def _packed(charges: Sequence[Charge], now_us: int | None) -> bytes:
    keys, arguments = [], []
    for charge in charges:
        compiled, record = charge.compiled, charge.record
        packed_keys = compiled.keys_of(charge.owners) if charge.owners else charge.client.join(compiled.packed_keys)
        keys.append(packed_keys)
        if record is None:
            one = charge.cost == 1  # most are
            arguments.append(compiled.one_unit_argument if one else compiled.argument(charge.cost))
            continue
        keys.append(bulk(charge.client + record.name))
        if record.script is None:
            arguments.append(compiled.argument(charge.cost, record.meaning))
        else:
            arguments += compiled.argument(charge.cost), bulk(record.meaning)
    packed_keys, now = b"".join(keys), b"" if now_us is None else b"%d" % now_us
    count = packed_keys.count(b"$")  # `$` precedes each key and occurs in none
    head = b"*%d\r\n$7\r\nEVALSHA\r\n" % (4 + count + len(arguments))
    return b"".join((head, bulk(_script(charges).sha), bulk(b"%d" % count), packed_keys, bulk(now), *arguments))


def _script(charges: Sequence[Charge]) -> Script:
    if len(charges) > 1:
        return check_batch_script()
    record = charges[0].record
    return record.script if record is not None and record.script is not None else charges[0].compiled.script


def of_single_checks(replies: Sequence[Any]) -> bool:
    """Whether each reply is that of one check without a record. Joined, they are the reply to one call of them all."""
    return set(map(type, replies)) == {bytes} and set(map(len, replies)) == {_OUTCOME.size}


def read_reply(reply: bytes, charges: Sequence[Charge]) -> list[Outcome | StoreError]:
    """Return the outcomes of the charges of one call. A reply in no known format gives StoreFault."""
    count = len(charges)
    if count == 1:
        return [read_part(reply, charges[0])]
    if len(reply) != _OUTCOME.size * count:
        return [StoreFault(NONSENSE)] * count
    if not _all_first(reply, count):
        return [_outcome(charge, row) for charge, row in zip(charges, _outcomes(reply), strict=True)]
    return [
        Outcome(True, 0, remaining, 0, reset_after_us, now_us)
        if wait_us == 0
        else Outcome(False, 0, remaining, wait_us if wait_us > 0 else None, reset_after_us, now_us)
        for _, remaining, wait_us, reset_after_us, now_us in _outcomes(reply)
    ]


def _all_first(reply: bytes, count: int) -> bool:
    """Whether all parts name the first limit, with valid times.

    Tests columns of bytes, since most rules have one limit.
    """
    size, zeros = _OUTCOME.size, bytes(count)
    return (
        reply[::size] == b"\1" * count
        and reply[1::size] == reply[2::size] == reply[3::size] == zeros
        and reply[size - 9 :: size].isascii()  # the top byte of the time until reset; below 128: not negative
        and reply[size - 1 :: size].isascii()
        and 0 not in reply[size - 2 :: size]  # the current time is after 1978
    )


def _outcome(charge: Charge, row: tuple[int, ...]) -> Outcome | StoreError:
    binding, remaining, wait_us, reset_after_us, now_us = row
    if 0 < binding <= len(charge.compiled.counter_names) and reset_after_us >= 0 < now_us:
        return Outcome(wait_us == 0, binding - 1, remaining, wait_us if wait_us >= 0 else None, reset_after_us, now_us)
    return StoreFault(NONSENSE)


def read_part(reply: bytes, charge: Charge) -> Outcome | StoreError:
    """Return the outcome of one charge, including stored answers, conflicts and leases."""
    if len(reply) == _OUTCOME.size:
        return _outcome(charge, _OUTCOME.unpack(reply))
    record = charge.record
    if not reply and record is not None and record.script is None:
        return RequestIdConflict("the request_id was used for a check with another limit_key, cost or groups")
    if len(reply) == _LEASE.size and record is not None and record.script is not None:
        binding, remaining, wait_us, reset_after_us, now_us, permits = _LEASE.unpack(reply)
        if 0 < binding <= len(charge.compiled.counter_names) and reset_after_us >= 0 < now_us:
            return LeaseOutcome(wait_us == 0, binding - 1, remaining, wait_us, reset_after_us, now_us, permits)
    elif len(reply) > _OUTCOME.size:
        binding, remaining, wait_us, reset_after_us, now_us = _OUTCOME.unpack(reply[: _OUTCOME.size])
        terms = reply[_OUTCOME.size :]
        if 0 < binding <= limits_in(terms) and reset_after_us >= 0 < now_us:
            return EarlierOutcome(True, binding - 1, remaining, wait_us, reset_after_us, now_us, terms)
    return StoreFault(NONSENSE)
