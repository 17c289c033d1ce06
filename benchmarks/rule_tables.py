"""Tables of the costs of rules, from the saved results of benchmarks.matching and benchmarks.refresh."""

from __future__ import annotations

from typing import Any

Result = dict[str, Any]


def exact(matching: Result) -> list[str]:
    """Return nanoseconds of a match among rules for one client each."""
    return [
        "| rules, each of one client | hit | no rule: the default | `match_shadow`, no shadows |",
        "|---|---|---|---|",
        *(
            f"| {int(rules):,} | {found['hit']} | {found['default']} | {found['no shadow']} |"
            for rules, found in matching["nanoseconds"]["exact"].items()
        ),
    ]


def patterns(matching: Result) -> list[str]:
    """Return nanoseconds of a match among patterns of one shape, and among similar patterns."""
    found = matching["nanoseconds"]
    counts = next(iter(found["globs"].values()))
    return [
        f"| hit, miss | {' | '.join(f'{int(count):,}' for count in counts)} |",
        "|---|" + "---|" * len(counts),
        *(
            f"| `{shape}` | {' | '.join(map(_pattern, by_count.values()))} |"
            for shape, by_count in found["globs"].items()
        ),
        "",
        "| patterns that all have to be tried for one client id, the longest | µs |",
        "|---|---|",
        *(f"| {patterns} | {ns / 1_000:.0f} |" for patterns, ns in found["worst"].items()),
    ]


def _pattern(found: dict[str, int]) -> str:
    return f"{found['hit']:,}, {found['miss']:,}"


def refreshes(refresh: Result) -> list[str]:
    """Return one worker's costs after a change of rules."""
    return [
        "| what changed | CPU ms | wall ms | longest wait ms |",
        "|---|---|---|---|",
        *(
            f"| {change} | {found['cpu_ms']:.0f} | {found['wall_ms']:.0f} | {found['longest_wait_ms']:.0f} |"
            for change, found in refresh["refreshes"].items()
        ),
    ]
