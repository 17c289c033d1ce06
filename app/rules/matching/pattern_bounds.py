"""Bounds how many patterns a tenant may have, and how similar, so that matching is cheap for every client id."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from app.rules.errors import Conflict
from app.rules.matching.glob import MAX_STARS, Coverage, is_repetitive, stars
from app.rules.matching.pattern_index import PatternIndex
from app.rules.sync.yielding import Pace

# Per tenant. Each change of a pattern makes all workers index all of them again, in 10 to 20 ms.
MAX_PATTERNS = 2_000
# Patterns among these that need a compiled expression.
MAX_REPETITIVE = 200
# Patterns tried for one client id. The slowest case found takes 0.2 ms, on a busy machine 0.5 (benchmarks/matching.py).
MAX_TRIED = 300
MAX_NAMED = 3  # similar patterns named in a refusal
MANY = "too-many"  # the kind of these refusals


@contextmanager
def keeping_matchable(patterns: Callable[[], set[str]], pace: Pace) -> Iterator[None]:
    """Changes rules inside. Raises Conflict if the tenant's `patterns` then are too many, or too slow to match.

    Patterns from before are not judged, so that stored ones can be changed.
    """
    before = patterns()
    yield
    after = patterns()
    if not after <= before:
        require_matchable(after, after - before, pace)


def require_matchable(patterns: Collection[str], new: Collection[str], pace: Pace) -> None:
    """Raises Conflict if `new` patterns make a tenant's patterns too many or too slow to match."""
    if len(patterns) > MAX_PATTERNS:
        raise Conflict(f"a tenant has at most {MAX_PATTERNS} patterns: these would be {len(patterns)}", MANY)
    repetitive = {pattern for pattern in pace(patterns) if is_repetitive(pattern)}
    for pattern in new:
        if stars(pattern) > MAX_STARS:
            raise Conflict(f"the pattern {pattern} has more than {MAX_STARS} *", MANY)
        if pattern in repetitive and len(repetitive) > MAX_REPETITIVE:
            raise Conflict(
                f"the pattern {pattern} has, between two *, a text that begins with one character three times:"
                f" a tenant has at most {MAX_REPETITIVE} such patterns",
                MANY,
            )
    tried = PatternIndex(dict.fromkeys(patterns, Coverage({}, None)), pace).most_tried()
    if len(tried) <= MAX_TRIED:
        return
    for place, pattern in enumerate(tried):
        if pattern in new:
            others = ", ".join([*tried[place + 1 :], *tried[place - MAX_NAMED : place]][:MAX_NAMED])
            raise Conflict(
                f"the pattern {pattern} resembles too many others, such as {others}: for some client id {len(tried)}"
                f" patterns would have to be tried; at most {MAX_TRIED} are allowed",
                MANY,
            )
