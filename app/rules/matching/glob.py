"""Client patterns: what a pattern is, and whether one matches."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from app.rules.rule import Rule

MAX_STARS = 4  # of one pattern: to try it is a search for each text between two of them


def is_pattern(client_id: str) -> bool:
    """Whether a rule's client is a glob; `*` alone, every client, is none."""
    return "*" in client_id and client_id != "*"


def stars(client_id: str) -> int:
    """How many `*` a pattern has; those beside one another mean the same as one."""
    return len(re.findall(r"\*+", client_id))


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
    """One in linear time, where `str.find` would be quadratic: in `aaa…` it compares all of `aaaab` at every place.

    Regular expressions know how much of a text they have found before it ends otherwise (Knuth, Morris and Pratt).
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
    """The pattern, made ready to match."""
    return RepetitiveGlob(pattern) if is_repetitive(pattern) else Glob(pattern)


def is_repetitive(pattern: str) -> bool:
    """Whether a text between two `*` begins with the same three times, such as `aaa` or `ab-ab-ab-`."""
    return any(map(_repeats, pattern.split("*")[1:-1]))


_repeats = re.compile(r"(.+?)\1\1", re.DOTALL).match


@lru_cache(maxsize=4096)  # to compile one takes 20 to 400 us
def _search(part: str) -> Callable[[str, int, int], re.Match[str] | None]:
    return re.compile(re.escape(part)).search
