"""Numbers the counters of a rule's limits. A number is never reused within a rule."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from app.rules.rule import Limit, Rule


def successor(current: Rule, rule: Rule, next_counter: int) -> Rule:
    """Return `rule` as the next version of `current`.

    Limits of unchanged algorithm and window keep their counters, unless the same client now has another counter.
    """
    kept = current.limits if rule.counted_by == current.counted_by else ()
    return replace(
        rule,
        id=current.id,
        version=current.version + 1,
        created_at=current.created_at,
        limits=numbered(rule.limits, kept, next_counter),
    )


def numbered(limits: Sequence[Limit], kept: Sequence[Limit] = (), next_counter: int = 1) -> tuple[Limit, ...]:
    """Return the limits with their counters.

    A limit takes the counter of an equal kept limit, else of one with its algorithm and window, else a new one.
    """
    free = list(kept)
    counters: dict[int, int] = {}
    for same in (_all_of, _what_counts):
        for place, limit in enumerate(limits):
            old = next((old for old in free if same(old) == same(limit)), None)
            if place not in counters and old is not None:
                counters[place] = old.counter
                free.remove(old)
    for place in range(len(limits)):
        if place not in counters:
            counters[place], next_counter = next_counter, next_counter + 1
    return tuple(replace(limit, counter=counters[place]) for place, limit in enumerate(limits))


def _all_of(limit: Limit) -> Limit:
    return replace(limit, counter=0)


def _what_counts(limit: Limit) -> tuple[str | None, int]:
    return limit.algorithm, limit.window
