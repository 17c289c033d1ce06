"""Client patterns: recognition and matching."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from app.rules.rule import Rule

MAX_STARS = 4  # per pattern: each text between two of them costs one search


def is_pattern(client_id: str) -> bool:
    """Whether a rule's client is a glob; `*` alone, which is every client, is not."""
    return "*" in client_id and client_id != "*"


def stars(client_id: str) -> int:
    """Return the number of `*` in a pattern; adjacent ones count as one."""
    return len(re.findall(r"\*+", client_id))


class Coverage(NamedTuple):
    """The rules of one client or pattern: by `limit_key`, and the one for every other key."""

    by_key: dict[str, Rule]
    any_key: Rule | None

    def rules(self) -> list[Rule]:
        return [*self.by_key.values(), *([self.any_key] if self.any_key else [])]

    def adding(self, rule: Rule) -> Coverage:
        """Return this coverage, changed.

        The later of two rules for the same key wins; the database allows no such pair.
        """
        if rule.endpoint is None:
            return self._replace(any_key=rule)
        self.by_key[rule.endpoint] = rule
        return self


class Glob:
    """A client pattern in which `*` stands for any text. Made by `glob_of`."""

    __slots__ = ("head", "middle", "pattern", "tail")

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.head, *middle, self.tail = pattern.split("*")
        self.middle = [part for part in middle if part]  # texts between two `*`

    def matches(self, text: str) -> bool:
        position, end = len(self.head), len(text) - len(self.tail)
        if position > end or not text.startswith(self.head) or not text.endswith(self.tail):
            return False
        for part in self.middle:
            position = text.find(part, position, end)
            if position < 0:
                return False
            position += len(part)
        return True


class RepetitiveGlob(Glob):
    """A glob matched in linear time, where `str.find` is quadratic: in "aaa…" it compares "aaaab" at every index.

    Regular expressions remember the part of a text that has matched so far (Knuth, Morris and Pratt).
    """

    __slots__ = ("_searches",)

    def __init__(self, pattern: str) -> None:
        super().__init__(pattern)
        self._searches = [_search(part) for part in self.middle]

    def matches(self, text: str) -> bool:
        position, end = len(self.head), len(text) - len(self.tail)
        if position > end or not text.startswith(self.head) or not text.endswith(self.tail):
            return False
        for search in self._searches:
            found = search(text, position, end)
            if found is None:
                return False
            position = found.end()
        return True


def glob_of(pattern: str) -> Glob:
    """Return the pattern, prepared for matching."""
    return RepetitiveGlob(pattern) if is_repetitive(pattern) else Glob(pattern)


def is_repetitive(pattern: str) -> bool:
    """Whether a text between two `*` begins with three repetitions, such as "aaa" or "ab-ab-ab-"."""
    return any(map(_repeats, pattern.split("*")[1:-1]))


_repeats = re.compile(r"(.+?)\1\1", re.DOTALL).match


@lru_cache(maxsize=4096)  # compiling one takes 20 to 400 us
def _search(part: str) -> Callable[[str, int, int], re.Match[str] | None]:
    return re.compile(re.escape(part)).search
