"""The client library as a package: what an index and its readers are told. `make package` builds and checks it."""

from __future__ import annotations

import re
import tomllib

import ratelimiter_client

from tests.support.node import ROOT

PROJECT = tomllib.loads((ROOT / "sdk/pyproject.toml").read_text())["project"]
CHANGES = (ROOT / "sdk/CHANGELOG.md").read_text()


def test_the_list_of_changes_begins_with_the_version() -> None:
    assert re.findall(r"^## (\S+)", CHANGES, re.MULTILINE)[0] == ratelimiter_client.__version__


def test_the_readme_has_no_link_that_only_a_checkout_has() -> None:
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / "sdk/README.md").read_text())
    assert [link for link in links if not link.startswith("#")] == []


def test_it_installs_nothing_else() -> None:
    assert PROJECT["dependencies"] == []


def test_pytest_finds_its_fixtures() -> None:
    assert PROJECT["entry-points"]["pytest11"] == {"ratelimiter_client": "ratelimiter_client.pytest_plugin"}
