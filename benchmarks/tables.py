"""Writes the tables of documents that hold measurements, from the saved results: `python -m benchmarks.tables`.

Arguments select documents, such as reliability.md. A table stands between `<!-- NAME -->` and `<!-- end -->`; the text
around it is written by hand.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.faults import matrix
from benchmarks.reach import PEERS, reach
from benchmarks.rule_tables import exact, patterns, refreshes
from benchmarks.scaling import capacity, costs, hot_keys, saturation
from benchmarks.simulation import failover_table, lease_table, outage_table

RESULTS = Path(__file__).parent / "results"
DOCUMENTS = [
    Path(__file__).parents[1] / "docs" / name
    for name in ("performance.md", "reliability.md", "scaling.md", "security.md", "shared-limits.md")
]
BLOCK = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
HEAD = [
    "| variant | worker µs | least to most | Redis µs | checks/s | p50 ms | p99 ms |",
    "|---|---|---|---|---|---|---|",
]
AREAS, FUNCTIONS = 10, 12
REACH_LEASED = {1_000: 1_000_000, 100: 400_000}  # lease size -> target decisions per CPU second


def with_tables(text: str) -> str:
    """Return the document with every table made from the saved results."""
    return BLOCK.sub(lambda block: block[1] + "\n".join(TABLES[block[2]]()) + "\n" + block[3], text)


def _saved(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def _made(name: str, **more: str | None) -> str:
    """Say when and how the results were made. `more`: versions of programs that took part."""
    result = _saved(name)
    versions = {"Python": result["python"], "Valkey": result["valkey"]} | more
    stated = ", ".join(f"{program} {version}" for program, version in versions.items() if version)
    return (
        f"Measured {result['date'][:10]} on an {result['cpu']} by `{result['command']}`: {stated}.\n"
        f"All figures and versions: [benchmarks/results/{name}.json](../benchmarks/results/{name}.json)."
    )


def _measured() -> list[str]:
    result = _saved("check")
    programs = {"Node": result["node"], "nginx": result["nginx"], "wrk": result["wrk"]}
    lines = [_made("check", **programs)]
    lines += [f"Left out: {name} ({reason})." for name, reason in result["left_out"].items()]
    lines += [f"A failed run, in no figure: {failure}." for failure in result["failures"]]
    waited = [figures["worker_waited_percent"]["median"] for figures in result["variants"].values()]
    lines.append(
        f"Others had the worker's processor for {min(waited):g} to {max(waited):g} % of the time it wanted it."
    )
    loops = [figures["loop_us"]["max"] for figures in result["variants"].values()]
    lines.append(f"Beside the runs that count, the fixed loop took {min(loops):,.0f} to {max(loops):,.0f} µs.")
    return lines


def by_variant(variants: Mapping[str, Any]) -> list[str]:
    """Return the figures of benchmarks.check, one row per variant."""
    return HEAD + [_row(*item) for item in variants.items()]


def _variants(chosen: Callable[[str], bool]) -> Callable[[], list[str]]:
    return lambda: by_variant({name: row for name, row in _saved("check")["variants"].items() if chosen(name)})


def _row(name: str, figures: dict[str, dict[str, float]]) -> str:
    of = {figure: found["median"] for figure, found in figures.items()}
    worker = figures["worker_us"]
    return (
        f"| {name} | {worker['median']:.1f} | {worker['min']:.1f} to {worker['max']:.1f} | {of['redis_us']:.1f} "
        f"| {of['checks_per_second']:,.0f} | {of['p50_ms']:.1f} | {of['p99_ms']:.1f} |"
    )


def _memory() -> list[str]:
    sizes = _saved("memory")["bytes_per_client"]
    return ["| algorithm | bytes a client |", "|---|---|"] + [f"| `{name}` | {size} |" for name, size in sizes.items()]


def _log() -> list[str]:
    rows = _saved("memory")["log"].items()
    return ["| entries | bytes an entry | µs a check |", "|---|---|---|"] + [
        f"| {int(entries):,} | {row['bytes_per_entry']} | {row['check_us']:.1f} |" for entries, row in rows
    ]


def _worst_cases() -> list[str]:
    found = _saved("worst_cases")
    columns = list(found["us_a_check"]["gcra"]["1"])
    return [
        f"| algorithm | limits | {' | '.join(columns)} |",
        "|---|---|" + "---|" * len(columns),
        *(
            f"| `{algorithm}` | {limits} | {' | '.join(f'{row[column]:.1f}' for column in columns)} |"
            for algorithm, rows in found["us_a_check"].items()
            for limits, row in rows.items()
        ),
        "",
        "| rare turns of a full log of 100,000 entries | µs |",
        "|---|---|",
        *(f"| {what} | {spent_us:.0f} |" for what, spent_us in found["us_of_a_log"].items()),
    ]


def _profile() -> list[str]:
    result = _saved("profile")
    lines = [_made("profile")]
    for name in (name for name, found in result.items() if isinstance(found, dict) and "areas" in found):
        lines += ["", *_profile_of(name, result[name])]
    return lines


def _profile_of(name: str, profile: dict[str, Any]) -> list[str]:
    functions: Iterable[dict[str, Any]] = profile["functions"][:FUNCTIONS]
    return [
        f"A check that is {name}: of {profile['worker_us']:.1f} µs {profile['kernel_us']:.1f} are the kernel's.",
        "",
        "| where | % | µs |",
        "|---|---|---|",
        *(f"| `{row['where']}` | {row['percent']:.1f} | {row['us']:.1f} |" for row in profile["areas"][:AREAS]),
        "",
        "| function | where | % | µs |",
        "|---|---|---|---|",
        *(f"| `{row['function']}` | `{row['where']}` | {row['percent']:.1f} | {row['us']:.1f} |" for row in functions),
    ]


def _instructions() -> list[str]:
    result = _saved("instructions")
    figures = result["redis_instructions_per_check"].items()
    return [
        _made("instructions"),
        "",
        "| clients | Redis's instructions a check, alone | one of 64 in a trip |",
        "|---|---|---|",
        *(f"| {int(clients):,} | {counted['alone']:,} | {counted['together']:,} |" for clients, counted in figures),
    ]


def _sdk_checks() -> list[str]:
    found = _saved("sdk")["check_us"]
    ours = found["ratelimiter_client"]["median"]
    return ["| one check by | CPU µs | least to most | ours is |", "|---|---|---|---|"] + [
        f"| {name} | {row['median']:.0f} | {row['min']:.0f} to {row['max']:.0f} | {ours / row['median']:.2f} of it |"
        for name, row in found.items()
    ]


def _sdk_compared() -> list[str]:
    result = _saved("sdk_compare")
    figures, before = result["check_us"], next(iter(result["ratio"].values()))
    head = f"| one check | CPU µs | {' | '.join(f'ratio to {commit}' for commit in before)} |"
    return [_made("sdk_compare"), "", head, "|---|---|" + "---|" * len(before)] + [
        f"| {name} | {us:.0f} | {' | '.join(f'{us / figures[commit]:.2f}' for commit in before)} |"
        for name, us in figures.items()
    ]


def _sdk_leases() -> list[str]:
    head = "| lease size | threads | decisions per CPU second | least to most | reach | decisions/s |"
    return [head, "|---|---|---|---|---|---|"] + [
        _sdk_lease(row, row["per_cpu_second"]) for row in _saved("sdk")["leased"]
    ]


def _sdk_lease(row: dict[str, Any], found: dict[str, float]) -> str:
    wanted = REACH_LEASED[row["size"]]
    return (
        f"| {row['size']:,} | {row['threads']} | {found['median']:,.0f} | {found['min']:,.0f} to {found['max']:,.0f} "
        f"| ≥ {wanted:,}: {'reached' if found['median'] >= wanted else 'not reached'} "
        f"| {row['per_second']['median']:,.0f} |"
    )


TABLES: dict[str, Callable[[], list[str]]] = {
    "measured": _measured,
    "ours": _variants(lambda name: not name.startswith(PEERS)),
    "peers": _variants(lambda name: name.startswith((*PEERS, "token_bucket"))),
    "reach": lambda: reach(_saved("check"), _saved("instructions")),
    "instructions": _instructions,
    "memory_measured": lambda: [_made("memory")],
    "memory": _memory,
    "log": _log,
    "worst_cases_measured": lambda: [_made("worst_cases")],
    "worst_cases": _worst_cases,
    "profile": _profile,
    "matching_measured": lambda: [_made("matching")],
    "exact": lambda: exact(_saved("matching")),
    "patterns": lambda: patterns(_saved("matching")),
    "refresh_measured": lambda: [_made("refresh")],
    "refreshes": lambda: refreshes(_saved("refresh")),
    "sdk_measured": lambda: [_made("sdk", requests=_saved("sdk")["packages"]["requests"])],
    "sdk_checks": _sdk_checks,
    "sdk_compared": _sdk_compared,
    "sdk_leases": _sdk_leases,
    "faults_measured": lambda: [_made("faults")],
    "faults": lambda: matrix(_saved("faults")["rows"], "fault"),
    "attacks_measured": lambda: [_made("attacks")],
    "attacks": lambda: matrix(_saved("attacks")["rows"], "attack"),
    "shared_measured": lambda: [_made("shared")],
    "shared": lambda: matrix(_saved("shared")["rows"], "burst"),
    "footprint_measured": lambda: [_made("check"), _made("footprint")],
    "costs": lambda: costs(_saved("check"), _saved("footprint")),
    "capacity": lambda: capacity(_saved("check"), _saved("footprint")),
    "saturation": lambda: saturation(_saved("check"), _saved("footprint")),
    "hot_keys": lambda: hot_keys(_saved("check")),
    "failovers": failover_table,
    "outages": outage_table,
    "leases": lease_table,
}


if __name__ == "__main__":
    for document in DOCUMENTS:
        if len(sys.argv) == 1 or document.name in sys.argv[1:]:
            document.write_text(with_tables(document.read_text()))
