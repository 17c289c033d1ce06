"""The fault matrix as tables, from the last `make faults` (tests/support/faults.py saves it)."""

from __future__ import annotations

from typing import Any

HEAD = ["| row | fault | promise | measured |", "|---|---|---|---|"]


def matrix(rows: dict[str, dict[str, Any]]) -> list[str]:
    """A table with one row a test."""
    return HEAD + [
        f"| {row['row']} | {row['fault']} | {row['promise']} | {_cases(row['measured'])} |" for row in rows.values()
    ]


def _cases(cases: dict[str, dict[str, float | str]]) -> str:
    stated = [f"**{case}** {_figures(figures)}" if case else _figures(figures) for case, figures in cases.items()]
    return "<br>".join(stated)


def _figures(figures: dict[str, float | str]) -> str:
    return "; ".join(f"{name}: {_number(value)}" for name, value in figures.items())


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,}"
