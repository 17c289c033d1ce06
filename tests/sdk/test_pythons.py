"""`pip install ./sdk` in an empty environment of another Python, and the client's own tests there.

With `make test` in the oldest and the newest that is there, with `make sdk-matrix` in each.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.node import ROOT, Node

VERSIONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
ALL = os.environ.get("SDK_PYTHONS") == "all"
AT_ONCE = 3  # mostly they wait for servers that do not answer


@pytest.fixture(scope="module")
def runs(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[str]]]:
    """What the tests print in each, several at a time; none for a version that is not there."""
    answer = node.request("POST", "/v1/admin/import", json=json.loads((ROOT / "sdk/tests/rules.json").read_text()))
    assert answer.status_code == 200, answer.text
    node.await_rules()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            version: pool.submit(installed_and_tested, python, tmp_path_factory.mktemp("sdk"), node.url)
            for version, python in chosen().items()
        }


@pytest.mark.parametrize("which", VERSIONS if ALL else ("oldest", "newest"))
def test_it_installs_and_passes_its_own_tests(which: str, runs: dict[str, Future[str]]) -> None:
    if which not in runs:
        pytest.skip(f"no Python {which} with venv, neither as python{which} nor among pyenv's")
    print(runs[which].result())


def chosen() -> dict[str, str]:
    """Interpreters by their versions, or as what they were chosen."""
    if ALL:
        found = {version: interpreter(version) for version in VERSIONS}
        return {version: python for version, python in found.items() if python}
    oldest, newest = filter(None, map(interpreter, VERSIONS)), filter(None, map(interpreter, reversed(VERSIONS)))
    return {"oldest": next(oldest), "newest": next(newest)}


def installed_and_tested(python: str, directory: Path, url: str) -> str:
    """Fails the test where something does."""
    run(python, "-m", "venv", directory / "venv")
    shutil.copytree(ROOT / "sdk", directory / "sdk")  # building may write beside the source
    environment = {"RATELIMITER_URL": url, "PATH": os.environ["PATH"]}
    installed = directory / "venv/bin/python"
    pip = [installed, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run(*pip, "install", directory / "sdk")
    packages = run(*pip, "freeze").splitlines()
    assert [line.split()[0] for line in packages] == ["ratelimiter-client"], packages
    tests = [installed, "-W", "error::ResourceWarning", "-m", "unittest", "discover"]
    return f"{python}\n{run(*tests, cwd=directory / 'sdk/tests', env=environment)}"


def run(*command: str | Path, **settings: object) -> str:
    """What it prints. Fails the test when the command fails."""
    completed = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=600, **settings
    )
    assert completed.returncode == 0, completed.stdout[-10_000:]
    return completed.stdout


def interpreter(version: str) -> str | None:
    """One of that version that runs: on the PATH, among pyenv's, or the suite's own."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [
        shutil.which(f"python{version}"),
        *sorted(map(str, pyenv.glob(f"versions/{version}.*/bin/python"))),
        sys.executable,
    ]
    return next((found for found in candidates if found and _version(found) == version), None)


def _version(python: str) -> str:
    """As it says itself: pyenv has commands on the PATH for versions that are not chosen, which do not run."""
    code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=False).stdout.strip()
