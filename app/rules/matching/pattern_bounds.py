"""Bounds how many patterns a tenant may have, and how similar, so that matching is cheap for every client id."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from app.rules.errors import Conflict
from app.rules.matching.glob import MAX_STARS, Coverage, is_pattern, is_repetitive, stars
from app.rules.matching.pattern_index import PatternIndex
from app.rules.rule import DEFAULT_LAYER, MAX_GROUPS, Rule
from app.rules.sync.yielding import Pace

# Per tenant. Each change of a pattern makes all workers index all of them again, in 10 to 20 ms.
MAX_PATTERNS = 2_000
# Patterns among these that need a compiled expression.
MAX_REPETITIVE = 200
# Patterns tried for one check, in all layers, with as many groups as it may have. The slowest case found takes 0.2 ms,
# on a busy machine 0.5 (benchmarks/matching.py).
MAX_TRIED = 300
MAX_NAMED = 3  # similar patterns named in a refusal
MANY = "too-many"  # the kind of these refusals


class Pattern(NamedTuple):
    """A pattern of clients, or of groups, in one layer."""

    text: str
    layer: str = DEFAULT_LAYER
    of_groups: bool = False

    @property
    def tried_with(self) -> Index:
        return self.layer, self.of_groups


Index = tuple[str, bool]  # a layer, and whether its patterns are of groups: these are tried together


@contextmanager
def keeping_matchable(patterns: Callable[[], set[Pattern]], pace: Pace) -> Iterator[None]:
    """Changes rules inside. Raises Conflict if the tenant's `patterns` then are too many, or too slow to match.

    Patterns from before are not judged, so that stored ones can be changed.
    """
    before = patterns()
    yield
    after = patterns()
    if not after <= before:
        require_matchable(after, after - before, pace)


def patterns_of(rules: Iterable[Rule]) -> set[Pattern]:
    """Return the patterns of these rules."""
    return {Pattern(rule.pattern, rule.layer, rule.group is not None) for rule in rules if is_pattern(rule.pattern)}


def require_matchable(patterns: Collection[Pattern], new: Collection[Pattern], pace: Pace) -> None:
    """Raises Conflict if `new` patterns make a tenant's patterns too many or too slow to match."""
    if len(patterns) > MAX_PATTERNS:
        raise Conflict(f"a tenant has at most {MAX_PATTERNS} patterns: these would be {len(patterns)}", MANY)
    repetitive = {pattern for pattern in pace(patterns) if is_repetitive(pattern.text)}
    for pattern in new:
        if stars(pattern.text) > MAX_STARS:
            raise Conflict(f"the pattern {pattern.text} has more than {MAX_STARS} *", MANY)
        if pattern in repetitive and len(repetitive) > MAX_REPETITIVE:
            raise Conflict(
                f"the pattern {pattern.text} has, between two *, a text that begins with one character three times:"
                f" a tenant has at most {MAX_REPETITIVE} such patterns",
                MANY,
            )
    tried = _most_tried(patterns, pace)
    count = sum(len(texts) * (MAX_GROUPS if of_groups else 1) for (_, of_groups), texts in tried.items())
    if count > MAX_TRIED:
        for index, texts in tried.items():
            _refuse_new(texts, {pattern.text for pattern in new if pattern.tried_with == index}, count)


def _most_tried(patterns: Iterable[Pattern], pace: Pace) -> dict[Index, list[str]]:
    """Return, by index, the patterns to try for one client or group, for the one with the most of them."""
    texts: dict[Index, list[str]] = {}
    for pattern in pace(patterns):
        texts.setdefault(pattern.tried_with, []).append(pattern.text)
    nothing = Coverage({}, None)
    return {index: PatternIndex(dict.fromkeys(alike, nothing), pace).most_tried() for index, alike in texts.items()}


def _refuse_new(tried: Sequence[str], new: Collection[str], count: int) -> None:
    """Raises Conflict if a new pattern is among those tried. `count`: how many a check has to try in all indexes."""
    for place, pattern in enumerate(tried):
        if pattern in new:
            others = ", ".join([*tried[place + 1 :], *tried[max(0, place - MAX_NAMED) : place]][:MAX_NAMED])
            alike = f"resembles too many others, such as {others}" if others else "is one too many beside other layers"
            raise Conflict(
                f"the pattern {pattern} {alike}: for some client id {count} patterns would have to be tried; at most"
                f" {MAX_TRIED} are allowed",
                MANY,
            )
