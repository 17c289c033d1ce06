"""The layout of the code: sizes, imports, and the one place of each thing."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from app.rules.rule import ALGORITHMS
from app.version import __version__
from tests.support.node import ROOT

SOURCES = sorted([*(ROOT / "app").rglob("*.py"), *(ROOT / "devstack").rglob("*.py")])
CLIENT = sorted((ROOT / "sdk").rglob("*.py"))
FRAMEWORKS = {"flask": {"flask", "werkzeug", "click"}, "django": {"django", "asgiref"}, "pytest_plugin.py": {"pytest"}}


def test_imports_go_one_way() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    completed = subprocess.run([lint_imports], cwd=ROOT, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stdout


def test_one_file_reads_the_environment() -> None:
    readers = [path.name for path in SOURCES if re.search(r"os\.(environ|getenv)", path.read_text())]
    # `make run` hands its own environment on to the service.
    assert set(readers) <= {"environment.py", "launcher.py"}, readers


def test_only_keys_spells_a_key() -> None:
    assert [path.name for path in SOURCES if re.search(r'"rl:', path.read_text())] == ["keys.py"]


def test_an_algorithm_is_one_word_for_module_script_and_value() -> None:
    scripts = {path.stem for path in (ROOT / "app/limiter/redis/scripts/algorithms").glob("*.lua")}
    modules = {path.stem for path in (ROOT / "app/limiter/algorithms").glob("*.py")} - {"__init__", "step_result"}
    assert scripts == modules == set(ALGORITHMS)


def test_clocks_are_arguments() -> None:
    """Below the wiring no code of the decision reads a clock."""
    for path in [*(ROOT / "app/limiter").rglob("*.py"), *(ROOT / "app/rules").rglob("*.py")]:
        names = {ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        assert not names & {"time.time", "time.monotonic", "datetime.now", "time.perf_counter"}, path


def test_rooms_stay_small() -> None:
    """A folder whose names are seen at a glance: at most 14 modules, or scripts, besides the sub-folders."""
    folders = [folder for top in ("app", "devstack") for folder in (ROOT / top).rglob("*") if folder.is_dir()]
    sizes = {str(folder): len([*folder.glob("[!_]*.py"), *folder.glob("*.lua")]) for folder in folders}
    assert {folder: size for folder, size in sizes.items() if size > 14} == {}


def test_files_stay_small() -> None:
    sources = [*SOURCES, *(ROOT / "sdk/src").rglob("*.py")]
    assert [path.name for path in sources if len(path.read_text().splitlines()) > 300] == []
    for path in (ROOT / "app/limiter/redis/scripts").rglob("*.lua"):
        code = [line for line in path.read_text().splitlines() if line.strip() and not line.strip().startswith("--")]
        assert len(code) <= 75, path


def test_the_client_needs_nothing_but_python_3_8() -> None:
    """Applications import it: what it needs, they would have to install. Frameworks only in their own shells."""
    own = {"ratelimiter_client", "support", *(path.stem for path in CLIENT if path.parent.name == "tests")}
    for path in CLIENT:
        nodes = list(ast.walk(ast.parse(path.read_text(), feature_version=(3, 8))))
        modules = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
        modules += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        foreign = {module.partition(".")[0] for module in modules} - sys.stdlib_module_names - own
        assert foreign <= FRAMEWORKS.get(path.parent.name, set()) | FRAMEWORKS.get(path.name, set()), path


def test_one_file_says_the_version_and_others_follow() -> None:
    changes = re.findall(r"^## (\S+?),? ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert changes[0] == __version__
    assert f'newTag: "{__version__}"' in (ROOT / "deploy/kubernetes/kustomization.yaml").read_text()
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dynamic"] == ["version"]


def test_migrations_are_numbered_in_sequence() -> None:
    numbers = sorted(path.name[:4] for path in (ROOT / "migrations/versions").glob("*.py"))
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]
