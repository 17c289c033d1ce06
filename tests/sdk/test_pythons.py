"""The client in an empty environment of another Python, and its own tests there.

With `make sdk-matrix` each Python that is there builds and installs it by `pip install ./sdk`. With `make test` uv does
so for the oldest and the newest, in a tenth of the time.
"""

from __future__ import annotations

import json
import os
import re
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
UV = str(Path(sys.executable).with_name("uv"))
REQUESTS = "1000" if ALL else "320"  # of test_legacy
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
    shutil.copytree(ROOT / "sdk", directory / "sdk")  # building may write beside the source
    installed = directory / "venv/bin/python"
    packages = (by_pip if ALL else by_uv)(python, installed, directory / "sdk")
    assert re.fullmatch("ratelimiter-client .*", packages), packages
    environment = {"RATELIMITER_URL": url, "RATELIMITER_REQUESTS": REQUESTS, "PATH": os.environ["PATH"]}
    tests = [installed, "-W", "error::ResourceWarning", "-m", "unittest", "discover"]
    return f"{python}\n{run(*tests, cwd=directory / 'sdk/tests', env=environment)}"


def by_pip(python: str, installed: Path, source: Path) -> str:
    """The packages that are there then, a line each."""
    run(python, "-m", "venv", installed.parents[1])
    pip = [installed, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run(*pip, "install", source)
    return run(*pip, "freeze").strip()


def by_uv(python: str, installed: Path, source: Path) -> str:
    """As `by_pip`; uv holds the Pythons that the package allows against this one."""
    run(UV, "build", "--quiet", "--wheel", source)
    run(UV, "venv", "--quiet", "--no-project", "--python", python, installed.parents[1])
    run(UV, "pip", "install", "--quiet", "--no-index", "--python", installed, *source.glob("dist/*.whl"))
    return run(UV, "pip", "freeze", "--quiet", "--python", installed).strip()


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
