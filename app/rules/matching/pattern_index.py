"""Finds the most specific of thousands of patterns that matches a client."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import NamedTuple, Protocol

from app.rules.matching.glob import Coverage, Glob, glob_of
from app.rules.rule import Rule
from app.rules.sync.yielding import Pace

# Up to this many patterns with a common head or tail are tried one by one. In larger groups, patterns with a middle are
# indexed by it.
FEW = 8
PIECE_LENGTH = 4  # characters: three cannot distinguish a thousand patterns by the number in them
MAX_PIECES = 32  # pieces of one pattern that are considered for its rarest
MAX_TEXT = 256  # characters of a client id
MATCHES_BYTES = 4 * 1024 * 1024  # remembered per worker: 12,000 with ids of 40 letters
MATCH_BYTES = 300  # per remembered match, without its texts


class Entry(NamedTuple):
    """A pattern in the index.

    `rank`: 0 is the most specific. `glob` is None if its place in the index implies a match.
    """

    rank: int
    glob: Glob | None
    coverage: Coverage


class PatternIndex:
    """One tenant's patterns, each indexed by a feature that few others share: its head, its tail, or a piece between.

    A search tries only the patterns that share such a feature with the client. It bisects once for heads and once for
    tails, and makes a look-up per character if there are pieces. Only patterns similar in all features are tried one by
    one; pattern_bounds.py limits their number.
    """

    def __init__(self, patterns: Mapping[str, Coverage], pace: Pace) -> None:
        ranked = sorted(patterns.items(), key=_most_specific_first)
        self._ranked = [(glob_of(pattern), coverage) for pattern, coverage in pace(ranked)]
        heads, tails, pieces = _filed(self._ranked, pace)
        self._heads = _Prefixes(heads)
        self._tails = _Prefixes(tails) if tails else None
        self._pieces = pieces
        self._piece_sizes = sorted({len(piece) for piece in pieces})
        self.tried = len(self.most_tried())

    @property
    def has_pieces(self) -> bool:
        """Whether a search takes a microsecond; without pieces it takes a third of that."""
        return bool(self._pieces)

    def match(self, client_id: str, limit_key: str) -> Rule | None:
        """Return the rule of the most specific pattern that matches and covers the key."""
        best, rank = self._heads.best(client_id, client_id, limit_key, None, len(self._ranked))
        if self._tails is not None:
            best, rank = self._tails.best(client_id[::-1], client_id, limit_key, best, rank)
        for size in self._piece_sizes:
            pieces = {client_id[start : start + size] for start in range(len(client_id) - size + 1)}
            for piece in self._pieces.keys() & pieces:
                best, rank = _better(self._pieces[piece], client_id, limit_key, best, rank)
        return best

    def matching(self, client_id: str) -> Iterator[Coverage]:
        """Return all patterns that match, the most specific first. Tries each: not for the hot path."""
        return (coverage for glob, coverage in self._ranked if glob.matches(client_id))

    def most_tried(self) -> list[str]:
        """Return the most patterns that must be tried for one client id, grouped by similarity.

        This is an upper bound: there may be no client id that needs all of them.
        """
        tried = self._heads.longest_way() + (self._tails.longest_way() if self._tails is not None else [])
        for size in self._piece_sizes:
            filed = [filed for piece, filed in self._pieces.items() if len(piece) == size]
            for fullest in sorted(filed, key=len, reverse=True)[: MAX_TEXT - size + 1]:
                tried += fullest
        return [self._ranked[entry.rank][0].pattern for entry in tried]


class Index(Protocol):
    def match(self, client_id: str, limit_key: str, /) -> Rule | None: ...


class Matches:
    """Remembered matches of all tenants of a book, for indexes whose search takes longer than a look-up.

    Callers choose clients and keys, so the memory is bounded.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[Index, str, str], Rule | None] = {}
        self._room = MATCHES_BYTES

    def match(self, index: Index, client_id: str, limit_key: str) -> Rule | None:
        """Return the match of `index`, one of the book's indexes."""
        key = index, client_id, limit_key
        try:
            return self._found[key]
        except KeyError:
            return self._learnt(key)

    def _learnt(self, key: tuple[Index, str, str]) -> Rule | None:
        index, client_id, limit_key = key
        if self._room < 0:
            self._found, self._room = {}, MATCHES_BYTES
        self._room -= MATCH_BYTES + sum(len(text) * (1 if text.isascii() else 4) for text in (client_id, limit_key))
        rule = self._found[key] = index.match(client_id, limit_key)
        return rule


class _Node:
    """A prefix that some patterns share. `parent` is the longest shorter prefix of it."""

    __slots__ = ("entries", "parent", "prefix")

    def __init__(self, prefix: str, parent: _Node | None, entries: list[Entry]) -> None:
        self.prefix = prefix
        self.parent = parent
        self.entries = entries


class _Prefixes:
    """Entries by the text they begin with.

    In sorted order, the prefixes of a text are its lower neighbour and that one's ancestors.
    """

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
        """Return the better of `best` with the given rank and the matching entries under prefixes of the text."""
        place = bisect_right(self._sorted, text)
        node = self._nodes[place - 1] if place else None
        while node is not None and not text.startswith(node.prefix):
            node = node.parent
        while node is not None:
            best, rank = _better(node.entries, client_id, limit_key, best, rank)
            node = node.parent
        return best, rank

    def longest_way(self) -> list[Entry]:
        """Return the most entries that one text must be compared with."""
        counts: dict[_Node | None, int] = {None: 0}
        for node in self._nodes:
            counts[node] = counts[node.parent] + len(node.entries)
        last = max(counts, key=counts.__getitem__)
        way: list[Entry] = []
        while last is not None:
            way += last.entries
            last = last.parent
        return way


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
    """Return entries by head, by reversed tail and by piece: each pattern once, under its rarest feature."""
    heads: defaultdict[str, list[Entry]] = defaultdict(list)
    tails: defaultdict[str, list[Entry]] = defaultdict(list)
    pieces: defaultdict[str, list[Entry]] = defaultdict(list)
    of_head, of_tail = Counter(glob.head for glob, _ in ranked), Counter(glob.tail for glob, _ in ranked)
    crowded = (glob for glob, _ in pace(ranked) if glob.middle and min(of_head[glob.head], of_tail[glob.tail]) > FEW)
    marks = {glob: _pieces(glob) for glob in crowded}
    of_piece = Counter(piece for found in pace(marks.values()) for piece in found)
    for rank, (glob, coverage) in enumerate(pace(ranked)):
        by_tail = glob.tail and (not glob.head or of_tail[glob.tail] < of_head[glob.head])
        if glob in marks:
            place, key = pieces, min(marks[glob], key=of_piece.__getitem__)
        else:
            place, key = (tails, glob.tail[::-1]) if by_tail else (heads, glob.head)
        one_ended = not glob.middle and not (glob.head and glob.tail)
        place[key].append(Entry(rank, None if one_ended else glob, coverage))
    return heads, tails, pieces


def _pieces(glob: Glob) -> list[str]:
    """Return the pieces, of PIECE_LENGTH characters, that a matching text contains between two `*`; all if shorter."""
    starts = ((part, start) for part in glob.middle for start in range(max(1, len(part) - PIECE_LENGTH + 1)))
    longest = max(map(len, glob.middle))
    found = (part[start : start + PIECE_LENGTH] for part, start in starts)
    return list(
        dict.fromkeys(islice((piece for piece in found if len(piece) == min(PIECE_LENGTH, longest)), MAX_PIECES))
    )


def _most_specific_first(item: tuple[str, object]) -> tuple[int, str]:
    pattern = item[0]
    return -len(pattern.replace("*", "")), pattern
