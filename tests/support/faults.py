"""The fault matrix: each row is a test, its promise the test's docstring, its figures what the test measured.

    @pytest.mark.fault(5, "the answer of Redis is lost after the script ran")
    def test_…(measured: Figures) -> None:
        \"\"\"Charged once.\"\"\"
        measured["charges per check"] = 1

`make faults` runs every row and, when all hold, saves them to benchmarks/results/faults.json, of which
docs/reliability.md is made. With `make test` they run too, what takes long for a shorter time (ALL).
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.embedded.valkey import binary

Figures = dict[str, float | str]
Rows = dict[str, dict[str, Any]]

SAVED = Path(__file__).parents[2] / "benchmarks" / "results" / "faults.json"
ALL = os.environ.get("FAULTS") == "all"

_ROWS = pytest.StashKey[Rows]()


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Iterator[Figures]:
    """Takes the figures of a test that is a row of the matrix, by what they are."""
    figures: Figures = {}
    yield figures
    print(f"\n{request.node.name}: {figures}")  # pytest -s
    marker = request.node.get_closest_marker("fault")
    assert marker is not None, "a test that measures is marked with its row: fault(number, what happens)"
    number, fault = marker.args
    row = request.config.stash.setdefault(_ROWS, {}).setdefault(
        f"{request.path.relative_to(request.config.rootpath)}::{request.node.originalname}",
        {"row": number, "fault": fault, "promise": promise(request.function), "measured": {}},
    )
    row["measured"][(getattr(request.node, "callspec", None) and request.node.callspec.id) or ""] = figures


def promise(test: Any) -> str:
    """The first paragraph of the docstring, in one line."""
    return " ".join((inspect.getdoc(test) or "").partition("\n\n")[0].split())


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    rows = session.config.stash.get(_ROWS, {})
    if ALL and exitstatus == pytest.ExitCode.OK and rows:
        save(rows)


def save(rows: Rows) -> None:
    """A run of a part replaces that part."""
    from benchmarks.machine import described  # which imports from the tests

    known: Rows = json.loads(SAVED.read_text())["rows"] if SAVED.exists() else {}
    ordered = sorted((known | rows).items(), key=lambda item: (item[1]["row"], item[0]))
    result = described("make faults", _valkey_version()) | {"rows": dict(ordered)}
    SAVED.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")


def _valkey_version() -> str:
    said = subprocess.run([binary(), "--version"], capture_output=True, text=True, check=True).stdout
    return said.partition("v=")[2].split()[0]
