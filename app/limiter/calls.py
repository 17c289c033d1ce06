"""One call of a script: the charges that it decides, packed, and its answer, read. check.lua describes both."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from app.limiter.decision import EarlierOutcome, LeaseOutcome, Outcome
from app.limiter.errors import RequestIdConflict, StoreError
from app.limiter.keys import CLIENT_LENGTH
from app.limiter.plan import Charge
from app.limiter.resp import bulk
from app.limiter.scripts import Script, checks_script

_OUTCOME, _LEASE = Struct("<2I3q"), Struct("<2I3qi")  # of a check; lease.lua says of what the other is
_outcomes = _OUTCOME.iter_unpack
ANYBODY = b"\xff" * CLIENT_LENGTH  # in place of a client; stands nowhere else in a call


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


def read_reply(reply: bytes, count: int) -> list[Outcome | StoreError]:
    """The outcomes of so many charges that were decided in one call."""
    if len(reply) != _OUTCOME.size * count:
        return [read_part(reply)] * count
    return [
        Outcome(True, binding - 1, remaining, 0, reset_after_us, now_us)
        if wait_us == 0
        else Outcome(False, binding - 1, remaining, wait_us if wait_us > 0 else None, reset_after_us, now_us)
        for binding, remaining, wait_us, reset_after_us, now_us in _outcomes(reply)
    ]


def read_part(reply: bytes) -> Outcome | StoreError:
    """The outcome of one charge, also where it is not what a check found just now."""
    if not reply:
        return RequestIdConflict("the request_id was used for a check with another limit_key or cost")
    if len(reply) == _OUTCOME.size:
        return read_reply(reply, 1)[0]
    if len(reply) == _LEASE.size:
        binding, remaining, wait_us, reset_after_us, now_us, permits = _LEASE.unpack(reply)
        return LeaseOutcome(wait_us == 0, binding - 1, remaining, wait_us, reset_after_us, now_us, permits)
    binding, remaining, wait_us, reset_after_us, now_us = _OUTCOME.unpack(reply[: _OUTCOME.size])
    return EarlierOutcome(True, binding - 1, remaining, wait_us, reset_after_us, now_us, reply[_OUTCOME.size :])
