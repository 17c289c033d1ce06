"""The fault matrix, and the tables of attacks and of bursts on shared limits: each row is a test, its promise the
test's docstring, its figures what the test measured.

    @pytest.mark.fault(5, "the answer of Redis is lost after the script ran")
    def test_…(measured: Figures) -> None:
        \"\"\"Charged once.\"\"\"
        measured["charges per check"] = 1

`make faults` runs every row of the matrix and saves those that hold to benchmarks/results/faults.json, of which
docs/reliability.md is made; `make attack` likewise attacks.json and docs/security.md, `make shared` shared.json and
docs/shared-limits.md. With `make test` all run too, what takes long for a shorter time (`whole`).
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devstack.servers.valkey import binary

Figures = dict[str, float | str]
Rows = dict[str, dict[str, Any]]

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


@dataclass(frozen=True)
class Matrix:
    """Rows of one kind. `kind` is the marker of its tests and the row's name for what happens. `name`: its results."""

    kind: str
    name: str
    command: str

    @property
    def saved(self) -> Path:
        return RESULTS / f"{self.name}.json"

    @property
    def whole(self) -> bool:
        """Whether every row runs at full length, and the figures are saved."""
        return os.environ.get(self.name.upper()) == "all"


FAULTS, ATTACKS = Matrix("fault", "faults", "make faults"), Matrix("attack", "attacks", "make attack")
SHARED = Matrix("burst", "shared", "make shared")
MATRICES = (FAULTS, ATTACKS, SHARED)

_FAILED = pytest.StashKey[set[str]]()  # names of rows
_ROWS = {matrix: pytest.StashKey[Rows]() for matrix in MATRICES}


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Iterator[Figures]:
    """Takes the figures of a test that is a row of a matrix, by what they are."""
    figures: Figures = {}
    yield figures
    print(f"\n{request.node.name}: {figures}")  # pytest -s
    marked = [(matrix, request.node.get_closest_marker(matrix.kind)) for matrix in MATRICES]
    [(matrix, marker)] = [(matrix, marker) for matrix, marker in marked if marker is not None]
    number, happens = marker.args
    row = request.config.stash.setdefault(_ROWS[matrix], {}).setdefault(
        f"{request.path.relative_to(request.config.rootpath)}::{request.node.originalname}",
        {"row": number, matrix.kind: happens, "promise": promise(request.function), "measured": {}},
    )
    row["measured"][(getattr(request.node, "callspec", None) and request.node.callspec.id) or ""] = figures


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    if call.excinfo is not None:
        item.config.stash.setdefault(_FAILED, set()).add(item.nodeid.partition("[")[0])


def promise(test: Any) -> str:
    """The first paragraph of the docstring, in one line."""
    return " ".join((inspect.getdoc(test) or "").partition("\n\n")[0].split())


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    for matrix in MATRICES:
        rows = session.config.stash.get(_ROWS[matrix], {})
        failed = session.config.stash.get(_FAILED, set())
        held = {name: row for name, row in rows.items() if name not in failed}
        if matrix.whole and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and held:
            save(matrix, held)


def save(matrix: Matrix, rows: Rows) -> None:
    """A run of a part replaces that part."""
    from benchmarks.machine import described  # which imports from the tests

    known: Rows = json.loads(matrix.saved.read_text())["rows"] if matrix.saved.exists() else {}
    ordered = sorted((known | rows).items(), key=lambda item: (item[1]["row"], item[0]))
    result = described(matrix.command, _valkey_version()) | {"rows": dict(ordered)}
    matrix.saved.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")


def _valkey_version() -> str:
    said = subprocess.run([binary(), "--version"], capture_output=True, text=True, check=True).stdout
    return said.partition("v=")[2].split()[0]
