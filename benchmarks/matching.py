"""Cost of finding the rule of a check, by number of rules: `python -m benchmarks.matching`.

Nanoseconds per call, the best of several runs, because the others were disturbed. Saved in
benchmarks/results/matching.json.
"""

from __future__ import annotations

import json
import random
import sys
import timeit
from collections.abc import Callable, Iterable
from pathlib import Path

from app.rules.matching.pattern_bounds import MAX_REPETITIVE, MAX_TRIED, Pattern, require_matchable
from app.rules.matching.pattern_index import MAX_TEXT, PatternIndex
from app.rules.rule import Limit, Rule, default_rule
from app.rules.rule_book import RuleBook, Snapshot
from app.rules.sync.yielding import unpaced
from benchmarks.machine import described

RESULT = Path(__file__).parent / "results" / "matching.json"
SIZES = (1, 10, 100, 1_000, 10_000)
GLOBS = (1, 10, 100, 1_000)
RUNS, CALLS = 80, 300  # short runs, some of which are undisturbed
LIMITS = (Limit(100, 60, "token_bucket"),)

# name -> (pattern of rule number n, a client that matches one, a client that matches none)
SHAPES = {
    "group_N_*": ("group_{}_*", "group_{}_user_77", "group_x_user_77"),
    "*@N.example": ("*@corp{}.example", "joe@corp{}.example", "joe@other.example"),
    "acme_*_N": ("acme_*_{}", "acme_user_77_{}", "acme_user_77_x"),
    "*-N-*": ("*-team{}-*", "user-team{}-77", "user-teamx-77"),
}


def rules(pattern: str, count: int, first_id: int = 1) -> list[Rule]:
    return [Rule(id=first_id + n, client_id=pattern.format(n), limits=LIMITS) for n in range(count)]


def book(stored: Iterable[Rule]) -> RuleBook:
    return RuleBook(Snapshot(1, b"", tuple(stored)), default=default_rule(100, 60), algorithm="token_bucket")


def nanoseconds(match: Callable[[int, str, str], object], client_id: str) -> int:
    """Return the nanoseconds of one call, without those of an empty call."""
    calls = min(timeit.repeat(lambda: match(1, client_id, "login"), number=CALLS, repeat=RUNS))
    empty = min(timeit.repeat(lambda: None, number=CALLS, repeat=RUNS))
    return round((calls - empty) / CALLS * 1e9)


def exact(count: int) -> dict[str, int]:
    """Measure this many rules, each for one client."""
    subject = book(rules("client_{}", count))
    return {
        "hit": nanoseconds(subject.match, f"client_{count // 2}"),
        "default": nanoseconds(subject.match, "nobody"),
        "no shadow": nanoseconds(subject.match_shadow, f"client_{count // 2}"),
    }


def globs(shape: str, count: int) -> dict[str, int]:
    """Measure this many patterns of one shape, among 10,000 rules in all."""
    pattern, hit, miss = SHAPES[shape]
    subject = book(rules("client_{}", 10_000 - count) + rules(pattern, count, first_id=10_001))
    return {
        "exact hit": nanoseconds(subject.match, "client_7"),
        "hit": nanoseconds(subject.match, hit.format(count // 2)),
        "miss": nanoseconds(subject.match, miss),
    }


def layers(count: int) -> dict[str, int]:
    """Measure this many patterns of groups, among 10,000 rules in two layers, for a check with two groups."""
    orgs = [Rule(id=20_000 + n, group=f"org:{n}_*", layer="org", limits=LIMITS) for n in range(count)]
    subject = book([*rules("client_{}", 10_000 - count), *orgs])

    def of_groups(*groups: str) -> int:
        return nanoseconds(lambda *check: subject.deciding(*check, groups), "client_7")

    return {
        "no groups": of_groups(),
        "hit": of_groups("plan:free", f"org:{count // 2}_7"),
        "miss": of_groups("plan:free", "org:none"),
    }


def worst() -> dict[str, int]:
    """Measure the most patterns that a tenant may have, if all must be tried for one long client id."""
    dice = random.Random(1)  # noqa: S311 - the same patterns every time
    text = "".join(dice.choices("abcd", k=MAX_TEXT))

    def disordered() -> str:
        """Return three parts of the client id, with the last one moved to the front."""
        last, *others = sorted(dice.sample(range(MAX_TEXT - 12), k=3))
        return "*".join(text[place : place + 12] for place in (*others, last))

    sets = {
        "249 heads, each the beginning of the next": ({"a" * n + "*" for n in range(1, 250)}, "a" * MAX_TEXT),
        f"{MAX_TRIED} with few heads and few tails": (
            {f"{'a' * (1 + n // 15)}*{'b' * (2 + n % 15)}" for n in range(MAX_TRIED)},
            "a" * (MAX_TEXT - 1) + "b",
        ),
        f"{MAX_TRIED} with the same pieces": ({f"*{disordered()}*" for _ in range(MAX_TRIED)}, text),
        f"{MAX_REPETITIVE} of `aaa…`": (
            {f"*{'a' * (3 + n % 50)}b*{'a' * (3 + n // 50)}c*" for n in range(MAX_REPETITIVE)},
            ("a" * 52 + "b") * 4 + "a" * 44,
        ),
    }
    costs = {}
    for name, (alike, client_id) in sets.items():
        patterns = {Pattern(text) for text in alike}
        require_matchable(patterns, patterns, unpaced)
        stored = [Rule(id=n, client_id=pattern, limits=LIMITS) for n, pattern in enumerate(sorted(alike), start=1)]
        costs[name] = nanoseconds(book(stored).match, client_id)
    return costs


def main() -> None:
    PatternIndex.has_pieces = False  # disables remembered matches: every client is a new one
    result = described("python -m benchmarks.matching", "not used") | {
        "nanoseconds": {
            "no rules": nanoseconds(book([]).match, "client_7"),
            "exact": {str(count): exact(count) for count in SIZES},
            "globs": {shape: {str(count): globs(shape, count) for count in GLOBS} for shape in SHAPES},
            "layers": {str(count): layers(count) for count in GLOBS},
            "worst": worst(),
        }
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write(RESULT.read_text())


if __name__ == "__main__":
    main()
