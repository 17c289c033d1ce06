"""What others make of /openapi.json: clients of two generators, compiled and used on a real node, and the page /docs.

The generators are installed for the test, into a directory of its own; where their index is not reached, it is skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.support.node import ADMIN_KEY, Node

USES = Path(__file__).parent / "generated"
PYTHON = "openapi-python-client==0.29.1"
NODE = ("openapi-typescript@7.13.0", "openapi-fetch@0.17.0", "typescript@5.9.3", "happy-dom@15.11.7")
SECONDS = 180
SAID = {"same": True, "reason": "within_limit", "said": [1, "/docs/problems#request-id-conflict"], "status": 422}


class Installation:
    """Begins at once, so that the two of this file are made beside each other. `directory`: where it is made."""

    def __init__(self, directory: Path, *command: str | Path) -> None:
        self.directory = directory
        self._missing = shutil.which(command[0]) is None
        self._process = None if self._missing else subprocess.Popen(command, cwd=directory, stderr=subprocess.PIPE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def ready(self) -> Path:
        """Where it is, once it is there. Skips the test where the packages cannot be had."""
        if self._process is None:
            pytest.skip("there is no npm or uv here")
        _, told = self._process.communicate(timeout=SECONDS)
        if self._process.returncode:
            pytest.skip(f"the generator cannot be installed here: {told.decode().strip()[-300:]}")
        return self.directory


@pytest.fixture(scope="module")
def for_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    directory, uv = tmp_path_factory.mktemp("python"), str(Path(sys.executable).with_name("uv"))
    with Installation(directory, uv, "pip", "install", "--quiet", "--target", "packages", PYTHON) as installation:
        yield installation


@pytest.fixture(scope="module")
def for_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    directory = tmp_path_factory.mktemp("node")
    with Installation(directory, "npm", "install", "--no-audit", "--no-fund", "--silent", *NODE) as installation:
        yield installation


@pytest.fixture
def document(node: Node, tmp_path: Path) -> Path:
    file = tmp_path / "openapi.json"
    file.write_bytes(node.request("GET", "/openapi.json", key=None).content)
    return file


def _run(*command: str | Path, cwd: Path, **environment: str) -> str:
    own = os.environ | environment
    completed = subprocess.run(command, cwd=cwd, env=own, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert completed.returncode == 0, completed.stdout[-3000:] + completed.stderr[-3000:]
    return completed.stdout


def test_a_python_client_is_generated_and_used(
    node: Node, document: Path, for_python: Installation, for_node: Installation
) -> None:
    here = for_python.ready()
    (here / "config.yaml").write_text("post_hooks: []\n")
    options = ("--path", document, "--meta", "none", "--output-path", "limiter_client", "--config", "config.yaml")
    told = _run(sys.executable, "-m", "openapi_python_client", "generate", *options, cwd=here, PYTHONPATH="packages")
    assert "Endpoint will not be generated" not in told
    use = (USES / "use.py", node.url, ADMIN_KEY)
    said = _run(sys.executable, *use, cwd=here, PYTHONPATH=f"packages{os.pathsep}.")
    assert json.loads(said) == SAID | {"listed": ["python"]}


def test_a_typescript_client_is_generated_compiled_and_used(node: Node, document: Path, for_node: Installation) -> None:
    here = for_node.ready()
    binaries = here / "node_modules/.bin"
    _run(binaries / "openapi-typescript", document, "--output", "schema.d.ts", cwd=here)
    shutil.copy(USES / "use.ts", here)
    options = ("--strict", "--target", "es2022", "--module", "commonjs", "--moduleResolution", "node10")
    _run(binaries / "tsc", *options, "--lib", "es2022,dom,dom.iterable", "--skipLibCheck", "use.ts", cwd=here)
    said = _run("node", "use.js", node.url, ADMIN_KEY, cwd=here)
    assert json.loads(said) == SAID | {"listed": ["typescript"]}


def test_the_page_shows_what_needs_a_key(node: Node, document: Path, tmp_path: Path, for_node: Installation) -> None:
    """Swagger UI by itself shows the locks of checks closed, because they need no key."""
    page, bundle = tmp_path / "page.html", tmp_path / "bundle.js"
    page.write_bytes(node.request("GET", "/docs", key=None).content)
    bundle.write_bytes(node.request("GET", "/docs/swagger-ui-bundle.js", key=None).content)
    here = for_node.ready()
    shutil.copy(USES / "page.js", here)
    said = json.loads(_run("node", "page.js", page, document, bundle, cwd=here))
    opened, closed = "authorization button unlocked", "authorization button locked"
    assert said == {"before": [opened, opened], "after": [closed, closed]}
