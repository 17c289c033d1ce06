"""Draws docs/performance.svg from the saved results: `.venv-bench/bin/python -m benchmarks.plot`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks.reach import PEERS

RESULT = Path(__file__).parent / "results" / "check.json"
DRAWING = Path(__file__).parents[1] / "docs" / "performance.svg"
BARS = {"worker_us": (-0.2, "worker", "#1f5f8b"), "redis_us": (0.2, "Redis", "#d9822b")}
WITHOUT_REDIS = ("gunicorn hello", "nginx limit_req")
HEIGHT, WIDTH, FROM_US = 0.36, 9, 1


def drawing(result: dict[str, Any]) -> Figure:
    """Draw two bars per variant on a logarithmic axis, with lines from minimum to maximum; peers come below a line."""
    variants = result["variants"]
    figure = Figure(figsize=(WIDTH, HEIGHT * len(variants) + 1), layout="constrained")
    axes = figure.add_subplot()
    for row, (name, figures) in enumerate(variants.items()):
        for key, (offset, _, colour) in BARS.items():
            if key == "worker_us" or name not in WITHOUT_REDIS:
                _bar(axes, row + offset, figures[key], colour)
    axes.set_yticks(range(len(variants)), list(variants))
    axes.set_ylim(len(variants) - 0.4, -0.6)
    axes.axhline(sum(not name.startswith(PEERS) for name in variants) - 0.5, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlim(FROM_US, 1.6 * max(figures["worker_us"]["max"] for figures in variants.values()))
    axes.set_xlabel("µs of CPU per check, logarithmic: medians, and the least and the most of the rounds")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(axis="x", which="both", alpha=0.25)
    axes.set_axisbelow(True)
    axes.legend(handles=[Patch(color=colour, label=label) for _, label, colour in BARS.values()])
    return figure


def _bar(axes: Axes, height: float, found: dict[str, float], colour: str) -> None:
    middle, most = found["median"], found["max"]
    axes.barh(height, middle, 0.38, color=colour)
    axes.plot([found["min"], most], [height, height], color="black", linewidth=0.8)
    label = f"{middle:,.0f}" if middle >= 100 else f"{middle:.1f}"
    axes.text(max(middle, most) * 1.05, height, label, va="center", fontsize=7)


if __name__ == "__main__":
    # Text stays text, and the same results give the same file.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "performance"})
    drawing(json.loads(RESULT.read_text())).savefig(DRAWING, metadata={"Date": None})
