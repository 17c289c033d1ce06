"""The documentation says what is true: its timelines run as tests, its links and paths lead somewhere."""

from __future__ import annotations

import datetime
import importlib
import json
import re
from pathlib import Path

import pytest

from app.limiter.redis.store import RedisStore
from app.rules.rule import ALGORITHMS, Limit
from benchmarks.tables import DOCUMENTS as MEASURED
from benchmarks.tables import with_tables
from tests.support.deciders import Decider, LuaDecider, PythonDecider
from tests.support.matrix import MATRICES, Matrix, promise
from tests.support.node import ROOT

DOCUMENTS = [ROOT / "README.md", ROOT / "sdk/README.md", *sorted((ROOT / "docs").glob("*.md"))]
ROW = re.compile(r"^\| (\d\d:\d\d:\d\d) \| (\d+) \| (allowed|denied) \| (\d+) \| (.*?) ?\|$", re.MULTILINE)


def timeline(algorithm: str) -> list[tuple[str, str, str, str, str]]:
    text = (ROOT / "docs/algorithms.md").read_text()
    section = text.partition(f"\n## {algorithm}\n")[2].partition("\n## ")[0]
    return ROW.findall(section)


@pytest.mark.parametrize("implementation", ["lua", "python"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_timelines_of_the_documentation_are_true(store: RedisStore, algorithm: str, implementation: str) -> None:
    decider: Decider = LuaDecider(store) if implementation == "lua" else PythonDecider()
    rows = timeline(algorithm)
    assert len(rows) >= 4
    for clock, cost, answer, remaining, why in rows:
        at = datetime.datetime.fromisoformat(f"2026-11-23T{clock}+00:00")
        outcome = decider.check([Limit(10, 60, algorithm)], int(cost), int(at.timestamp()) * 1_000_000)
        assert (outcome.allowed, outcome.remaining) == (answer == "allowed", int(remaining)), clock
        if promised := re.search(r"retry in ([\d,]+) ms", why):
            assert outcome.retry_after_us == int(promised[1].replace(",", "")) * 1000


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_paths_lead_somewhere(document: Path) -> None:
    text = document.read_text()
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (document.parent / link).exists(), link
    for path in re.findall(r"`((?:app|tests|docs|migrations|benchmarks)/[\w/.]+)`", text):
        assert "NAME" in path or (ROOT / path).exists(), path


def test_the_map_of_the_code_names_every_room() -> None:
    places = (ROOT / "docs/architecture.md").read_text().partition("## Where things live")[2]
    rooms = {path.parent.name for path in (ROOT / "app").glob("*/__init__.py")}
    rooms |= {path.parent.name for path in (ROOT / "app").glob("*/*/__init__.py")}
    assert {room for room in rooms if f"{room}/" not in places} == set()


@pytest.mark.parametrize("document", MEASURED, ids=lambda path: path.name)
def test_the_tables_of_measurements_are_those_saved(document: Path) -> None:
    text = document.read_text()
    assert with_tables(text) == text


@pytest.mark.parametrize("matrix", MATRICES, ids=lambda matrix: matrix.kind)
def test_every_row_of_a_matrix_is_a_test_with_the_promise_that_was_measured(matrix: Matrix) -> None:
    rows = json.loads(matrix.saved.read_text())["rows"]
    for name, row in rows.items():
        path, _, test = name.partition("::")
        module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
        function = getattr(module, test)
        [marker] = [mark for mark in function.pytestmark if mark.name == matrix.kind]
        assert (marker.args[0], promise(function)) == (row["row"], row["promise"])
    marked = re.compile(rf"^@pytest\.mark\.{matrix.kind}\(.*?^def (\w+)", re.MULTILINE | re.DOTALL)
    tests = {
        f"{path.relative_to(ROOT)}::{name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in marked.findall(path.read_text())
    }
    assert tests == set(rows)
