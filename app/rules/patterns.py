"""Client patterns: whether one matches, and which of thousands is the most specific that does."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from app.rules.pace import Pace
from app.rules.rule import Rule

# So many patterns with a common head or tail are tried one by one; of more, those with a middle are told apart by it.
FEW = 8
GRAM = 3  # characters
MAX_GRAMS = 32  # of one pattern that are looked at for its rarest


class Coverage(NamedTuple):
    """The rules of one client or pattern: by `limit_key`, and the one for every other key."""

    by_key: dict[str, Rule]
    any_key: Rule | None

    def rules(self) -> list[Rule]:
        return [*self.by_key.values(), *([self.any_key] if self.any_key else [])]

    def adding(self, rule: Rule) -> Coverage:
        """This coverage, changed. Of two rules for the same key the later counts; the database knows no such two."""
        if rule.endpoint is None:
            return self._replace(any_key=rule)
        self.by_key[rule.endpoint] = rule
        return self


class Glob:
    """A client pattern in which `*` stands for any text. Linear time, whatever the pattern: callers choose the text."""

    __slots__ = ("_middle", "head", "tail")

    def __init__(self, pattern: str) -> None:
        self.head, *self._middle, self.tail = pattern.split("*")

    @property
    def longest_part(self) -> str:
        """The longest text between two `*`."""
        return max(self._middle, key=len, default="")

    def matches(self, text: str) -> bool:
        position, end = len(self.head), len(text) - len(self.tail)
        if position > end or not text.startswith(self.head) or not text.endswith(self.tail):
            return False
        for part in self._middle:
            position = text.find(part, position, end)
            if position < 0:
                return False
            position += len(part)
        return True


class Entry(NamedTuple):
    """A pattern in the index. `rank`: 0 is the most specific. `glob` is None where its place in the index says all."""

    rank: int
    glob: Glob | None
    coverage: Coverage


class PatternIndex:
    """The patterns of one tenant, each filed under what few others have: its head, its tail, or a piece of its middle.

    A search tries the few patterns that share such a mark with the client, not all: a bisection for the heads, one for
    the tails, and a look-up per character where there are pieces. Only patterns that resemble one another in all three
    are tried one by one.
    """

    def __init__(self, patterns: Mapping[str, Coverage], pace: Pace) -> None:
        ranked = sorted(patterns.items(), key=_most_specific_first)
        self._ranked = [(Glob(pattern), coverage) for pattern, coverage in pace(ranked)]
        heads, tails, pieces = _filed(self._ranked, pace)
        self._heads = _Prefixes(heads)
        self._tails = _Prefixes(tails) if tails else None
        self._pieces = pieces
        self._piece_sizes = sorted({len(piece) for piece in pieces})

    def match(self, client_id: str, limit_key: str) -> Rule | None:
        """The rule of the most specific pattern that matches and covers the key."""
        best, rank = self._heads.best(client_id, client_id, limit_key, None, len(self._ranked))
        if self._tails is not None:
            best, rank = self._tails.best(client_id[::-1], client_id, limit_key, best, rank)
        for size in self._piece_sizes:
            pieces = {client_id[start : start + size] for start in range(len(client_id) - size + 1)}
            for piece in self._pieces.keys() & pieces:
                best, rank = _better(self._pieces[piece], client_id, limit_key, best, rank)
        return best

    def matching(self, client_id: str) -> Iterator[Coverage]:
        """All patterns that match, the most specific first. Tries each: not for the hot path."""
        return (coverage for glob, coverage in self._ranked if glob.matches(client_id))


class _Node:
    """A beginning that some patterns share. `parent` is the longest shorter one that it begins with."""

    __slots__ = ("entries", "parent", "prefix")

    def __init__(self, prefix: str, parent: _Node | None, entries: list[Entry]) -> None:
        self.prefix = prefix
        self.parent = parent
        self.entries = entries


class _Prefixes:
    """Entries by the text they begin with. In the order of these texts, all that another text begins with are its
    neighbour below and that one's ancestors."""

    def __init__(self, entries: Mapping[str, list[Entry]]) -> None:
        self._sorted = sorted(entries)
        self._nodes: list[_Node] = []
        node: _Node | None = None
        for prefix in self._sorted:
            while node is not None and not prefix.startswith(node.prefix):
                node = node.parent
            node = _Node(prefix, node, entries[prefix])
            self._nodes.append(node)

    def best(self, text: str, client_id: str, limit_key: str, best: Rule | None, rank: int) -> tuple[Rule | None, int]:
        """`best` of the given rank, or what is filed under a beginning of the text, matches and ranks lower."""
        place = bisect_right(self._sorted, text)
        node = self._nodes[place - 1] if place else None
        while node is not None and not text.startswith(node.prefix):
            node = node.parent
        while node is not None:
            best, rank = _better(node.entries, client_id, limit_key, best, rank)
            node = node.parent
        return best, rank


def _better(
    entries: list[Entry], client_id: str, limit_key: str, best: Rule | None, rank: int
) -> tuple[Rule | None, int]:
    for entry_rank, glob, (by_key, any_key) in entries:
        if entry_rank >= rank:
            break
        rule = by_key.get(limit_key, any_key)
        if rule is not None and (glob is None or glob.matches(client_id)):
            return rule, entry_rank
    return best, rank


def _filed(ranked: list[tuple[Glob, Coverage]], pace: Pace) -> tuple[dict[str, list[Entry]], ...]:
    """Entries by head, by reversed tail and by piece: each pattern once, where it is rarest."""
    heads: defaultdict[str, list[Entry]] = defaultdict(list)
    tails: defaultdict[str, list[Entry]] = defaultdict(list)
    pieces: defaultdict[str, list[Entry]] = defaultdict(list)
    of_head, of_tail = Counter(glob.head for glob, _ in ranked), Counter(glob.tail for glob, _ in ranked)
    crowded = [glob for glob, _ in ranked if min(of_head[glob.head], of_tail[glob.tail]) > FEW]
    of_piece = Counter(piece for glob in pace(crowded) for piece in _pieces(glob))
    for rank, (glob, coverage) in enumerate(pace(ranked)):
        by_tail = glob.tail and (not glob.head or of_tail[glob.tail] < of_head[glob.head])
        in_a_crowd = min(of_head[glob.head], of_tail[glob.tail]) > FEW
        if in_a_crowd and glob.longest_part:
            place, key = pieces, min(_pieces(glob), key=of_piece.__getitem__)
        else:
            place, key = (tails, glob.tail[::-1]) if by_tail else (heads, glob.head)
        one_ended = not glob.longest_part and not (glob.head and glob.tail)
        place[key].append(Entry(rank, None if one_ended else glob, coverage))
    return heads, tails, pieces


def _pieces(glob: Glob) -> set[str]:
    """What a text has to contain to match, in pieces of GRAM characters, of the longest part between two `*`."""
    part = glob.longest_part
    return {part[start : start + GRAM] for start in range(min(MAX_GRAMS, max(1, len(part) - GRAM + 1)))}


def _most_specific_first(item: tuple[str, object]) -> tuple[int, str]:
    pattern = item[0]
    return -len(pattern.replace("*", "")), pattern
