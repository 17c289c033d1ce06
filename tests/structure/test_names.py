"""Names in backticks exist: in docstrings and comments any name, in the documentation settings and metrics."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.structure.test_docs import DOCUMENTS
from tests.support.node import ROOT

ROOMS = ("app", "devstack", "sdk/src")
PYTHON = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
LUA = sorted((ROOT / "app").rglob("*.lua"))
DEPLOYED = [
    ROOT / name for name in ("docker-compose.yml", "Dockerfile", "Makefile", "gunicorn.conf.py", "pyproject.toml")
]
# NAME_… is a placeholder.
NAME = re.compile(r"`(?!NAME_)([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?:\(\))?`", re.ASCII)
# A metric, or a setting of more than one word.
PUBLIC = re.compile(r"`(?!NAME_)(ratelimiter_\w+|[A-Z]+(?:_[A-Z0-9]+)+)(?:\{\w+\})?`")
WORD = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def docstrings(tree: ast.AST) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            yield body[0].value


def code_words(path: Path) -> Iterator[str]:
    """The words of the code, including its texts, but not its docstrings and comments."""
    tree = ast.parse(path.read_text())
    prose = {id(node) for node in docstrings(tree)}
    for node in ast.walk(tree):
        for _, value in ast.iter_fields(node):
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, str) and id(node) not in prose:
                    yield from WORD.findall(each)
    yield path.stem


@cache
def known() -> set[str]:
    words = {word for path in PYTHON for word in code_words(path)}
    for path in LUA:
        words |= {path.stem, *WORD.findall(re.sub(r"--.*", "", path.read_text()))}
    return words | {room.name for room in (ROOT / "app").rglob("*") if room.is_dir()}


def test_names_in_docstrings_and_comments() -> None:
    missing = []
    for path in PYTHON:
        source = path.read_text()
        prose = [str(node.value) for node in docstrings(ast.parse(source))] + re.findall(r"#.*", source)
        named = {name for text in prose for name in NAME.findall(text)}
        missing += [f"{path.relative_to(ROOT)}: {name}" for name in named if not set(name.split(".")) <= known()]
    for path in LUA:
        named = {name for comment in re.findall(r"--.*", path.read_text()) for name in NAME.findall(comment)}
        missing += [f"{path.relative_to(ROOT)}: {name}" for name in named if name not in known()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_settings_and_metrics_in_the_documentation(document: Path) -> None:
    words = set(known())
    for path in [
        *DEPLOYED,
        *(ROOT / "deploy").rglob("*"),
        *(ROOT / "benchmarks").glob("*.py"),
        *(ROOT / "tests").rglob("*.py"),
    ]:
        if path.is_file():
            words |= set(WORD.findall(path.read_text(errors="replace")))
    assert {name for name in PUBLIC.findall(document.read_text()) if name not in words} == set()
