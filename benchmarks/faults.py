"""Tables of faults and attacks, from the last `make faults` and `make attack` (saved by tests/support/matrix.py)."""

from __future__ import annotations

from typing import Any


def matrix(rows: dict[str, dict[str, Any]], kind: str) -> list[str]:
    """Return a table with one row per test. `kind`: the header of the first column, a fault or an attack."""
    return [f"| row | {kind} | promise | measured |", "|---|---|---|---|"] + [
        f"| {row['row']} | {row[kind]} | {row['promise']} | {_cases(row['measured'])} |" for row in rows.values()
    ]


def _cases(cases: dict[str, dict[str, float | str]]) -> str:
    stated = [f"**{case}** {_figures(figures)}" if case else _figures(figures) for case, figures in cases.items()]
    return "<br>".join(stated)


def _figures(figures: dict[str, float | str]) -> str:
    return "; ".join(f"{name}: {_number(value)}" for name, value in figures.items())


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,}"
