"""Packs parts into calls of check_together.lua, give_back.lua and finish.lua, and reads the replies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct, pack
from typing import Any

from app.limiter.decision import Outcome
from app.limiter.errors import RequestIdConflict, StoreError, StoreFault
from app.limiter.joint.parts import BACK, FINISH, Item, ItemOutcome, Part, PartialOutcome, PartOutcome
from app.limiter.joint.placement import prefixes
from app.limiter.keys import mark_name
from app.limiter.redis.packing import packed
from app.limiter.redis.script_calls import NONSENSE, read_part
from app.limiter.redis.scripts import Script, check_together_script, finish_script, give_back_script

_RESULT = Struct("<2I4q")  # check_together.lua describes it
_LIMITS, _LIMIT = 8, 32  # in CompiledRule.packed_limits: bytes before the first limit, and of each


def part_trips(parts: Sequence[Part], most_us: int) -> Iterator[tuple[list[Part], int]]:
    """Yield the parts in order, by round trips of at most `most_us` of Redis time each, and that time.

    A single part beyond it has a round trip of its own.
    """
    trip: list[Part] = []
    total = 0
    for part in parts:
        work_us = sum(item.charge.compiled.work_us for item in part.items)
        if trip and total + work_us > most_us:
            yield trip, total
            trip, total = [], 0
        trip.append(part)
        total += work_us
    yield trip, total


def packed_part(part: Part, now_us: int | None = None) -> bytes:
    """Return the EVALSHA of the part. Without `now_us`, Redis's clock decides."""
    if part.mode == FINISH:
        return _evalsha(finish_script(), _id_keys(part.items[0]), part.message)
    keys = [key for item in part.items for key in (*_keys(item), *_id_keys(item))]
    now = b"" if now_us is None else b"%d" % now_us
    if part.mode == BACK:
        return _evalsha(give_back_script(), keys, now, part.message)
    return _evalsha(check_together_script(), keys, now, part.mode, *map(_asked, part.items))


def read_part_outcome(reply: Any, part: Part) -> PartOutcome | StoreError:
    """Return the outcome of the part. A reply in no known format gives StoreFault."""
    if part.mode in (BACK, FINISH):
        return PartOutcome()
    if not isinstance(reply, list) or len(reply) != len(part.items) + 1 or type(reply[-1]) is not bytes:
        return StoreFault(NONSENSE)
    outcomes: list[ItemOutcome | Outcome | RequestIdConflict | None] = []
    for answer, item in zip(reply, part.items, strict=False):
        outcome = _outcome(answer, item)
        if isinstance(outcome, StoreFault):
            return outcome
        outcomes.append(outcome)
    return PartOutcome(tuple(outcomes), all(map(_admitted, outcomes)), reply[-1])


def _evalsha(script: Script, keys: list[bytes], *arguments: bytes) -> bytes:
    return packed(b"EVALSHA", script.sha, b"%d" % len(keys), *keys, *arguments)


def _keys(item: Item) -> list[bytes]:
    owners, names = prefixes(item.charge), item.charge.compiled.counter_names
    return [owners[limit] + names[limit] for limit in item.limits]


def _id_keys(item: Item) -> list[bytes]:
    """Return the keys of the answer and of the mark, if the request id belongs to the part."""
    if item.record is None:
        return []
    client, answer = item.charge.client, item.record.name
    return [client + answer, client + mark_name(answer)]


def _asked(item: Item) -> bytes:
    limits = item.charge.compiled.packed_limits
    starts = [_LIMITS + _LIMIT * limit for limit in item.limits]
    meaning = item.record.meaning if item.record is not None else b""
    head = pack("<2d", item.charge.cost, len(starts))
    return b"".join((head, *(limits[start : start + _LIMIT] for start in starts), meaning))


def _outcome(answer: Any, item: Item) -> ItemOutcome | Outcome | RequestIdConflict | StoreFault | None:
    if type(answer) is bytes and item.record is not None:
        stored = read_part(answer, item.charge)
        return stored if isinstance(stored, Outcome | RequestIdConflict) else StoreFault(NONSENSE)
    if not isinstance(answer, list) or not 1 <= len(answer) <= 2:
        return StoreFault(NONSENSE)
    before, after = _partial(answer[0], item), _partial(answer[-1], item)
    if before is None or after is None:
        return StoreFault(NONSENSE)
    return ItemOutcome(before, after) if item.limits else None


def _partial(result: Any, item: Item) -> PartialOutcome | None:
    """Return the outcome in a result, with the binding limit -1 for an item without limits. None: malformed."""
    if type(result) is not bytes or len(result) != _RESULT.size:
        return None
    binding, remaining, wait_us, reset_after_us, now_us, alone_us = _RESULT.unpack(result)
    if not bool(item.limits) <= binding <= len(item.limits) or reset_after_us < 0 or now_us <= 0:
        return None
    wait, alone = (each if each >= 0 else None for each in (wait_us, alone_us))
    limit = item.limits[binding - 1] if item.limits else -1
    return PartialOutcome(wait_us == 0, limit, remaining, wait, reset_after_us, now_us, alone)


def _admitted(outcome: ItemOutcome | Outcome | RequestIdConflict | None) -> bool:
    if isinstance(outcome, ItemOutcome):
        return outcome.before.allowed
    return not isinstance(outcome, RequestIdConflict)
