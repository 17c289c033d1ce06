"""`flask rules export|import|diff|validate`: files of rules, and what is wrong with them by line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.cli.progress import progress
from tests.cli.conftest import Cli, flask, json_of


def test_files_are_exported_compared_and_imported(cli: Cli, client: str, tmp_path: Path) -> None:
    cli("tenants", "create", client)
    own = ("--tenant", client)
    file = tmp_path / "rules.yaml"
    file.write_text("rules:\n- {client_id: a, rate: 5, window: 60}\n- {client_id: b, action: block}\n")
    assert cli("rules", "diff", str(file), *own).output == (
        "+ a *\n+ b *\n2 created, 0 replaced, 0 deleted, 0 unchanged\n"
    )
    cli("rules", "import", str(file), *own, "--dry-run")
    assert json_of(cli, "rules", "list", *own) == []
    assert len(json_of(cli, "rules", "import", str(file), *own)["created"]) == 2
    for kind in ("yaml", "json"):
        copy = tmp_path / f"copy.{kind}"
        copy.write_text(cli("rules", "export", *own, "--format", kind).output)
        assert cli("rules", "diff", str(copy), *own, "--replace").output.endswith("0 deleted, 2 unchanged\n")
    file.write_text("rules:\n- {client_id: a, rate: 6, window: 60}\n")
    told = "~ a *\n    rate: 5 -> 6\n- b *\n0 created, 1 replaced, 1 deleted, 0 unchanged\n"
    before = json_of(cli, "rules", "list", *own)
    refused = cli("rules", "import", str(file), *own, "--replace", code=1).output
    assert refused.startswith(f"{told}Error: Delete 1 rule that {file} does not have? Nothing was changed: ")
    assert json_of(cli, "rules", "list", *own) == before
    assert cli("rules", "import", str(file), *own, "--replace", "--yes").output == told
    assert cli("rules", "import", str(file), *own, "--replace").output.endswith(" 0 deleted, 1 unchanged\n")
    from_stdin = cli("rules", "import", "-", *own, stdin='{"rules": [{"client_id": "c", "rate": 1, "window": 1}]}')
    assert from_stdin.output.endswith("1 created, 0 replaced, 0 deleted, 0 unchanged\n")


def test_a_file_longer_than_a_megabyte_is_taken_by_every_command(cli: Cli, client: str, tmp_path: Path) -> None:
    cli("tenants", "create", client)
    own = ("--tenant", client)
    file = tmp_path / "rules.json"
    rules = [{"client_id": f"c{number}", "rate": 1, "window": 1, "description": "d" * 990} for number in range(1_200)]
    file.write_text(json.dumps({"rules": rules}))
    assert cli("rules", "validate", str(file)).output == f"{file}: 1200 rules, all valid\n"
    assert cli("rules", "import", str(file), *own).output.endswith("1200 created, 0 replaced, 0 deleted, 0 unchanged\n")
    copy = tmp_path / "copy.yaml"
    copy.write_text(cli("rules", "export", *own).output)
    assert copy.stat().st_size > 1024 * 1024
    assert cli("rules", "diff", str(copy), *own, "--replace").output.endswith("0 deleted, 1200 unchanged\n")


def test_long_work_gives_signs_of_life(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("app.cli.progress.FIRST_SECONDS", 0)
    monkeypatch.setattr("app.cli.progress.LOG_SECONDS", 0)
    with progress("reading", lambda: "a half") as pace:
        assert list(pace([1, 2])) == [1, 2]
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "reading: a half\n" * 2)


def test_an_invalid_file_is_a_line_for_each_error_and_changes_nothing(cli: Cli, tmp_path: Path) -> None:
    before = json_of(cli, "rules", "list")
    file = tmp_path / "rules.yaml"
    file.write_text("rules:\n- {client_id: a, rate: 0, window: 60}\n- {rate: 1, window: 1}\n")
    for command in ("validate", "diff", "import"):
        lines = cli("rules", command, str(file), code=1).output.splitlines()
        assert [line.partition(": ")[0] for line in lines] == [f"{file}:2", f"{file}:3"]
        assert "rules[0].rate: " in lines[0]
    file.write_text("rules:\n- &a {}\n")
    said = cli("rules", "import", str(file), code=1).output
    assert said.startswith(f"{file}:2: the file is not YAML: ")
    file.write_text("- a\n")
    assert cli("rules", "validate", str(file), code=1).output == f'{file}:1: A file holds {{"rules": […]}}.\n'
    json_file = tmp_path / "rules.json"
    json_file.write_text('{"rules": [\n{"client_id": a}]}')
    assert cli("rules", "validate", str(json_file), code=1).output.startswith(f"{json_file}:2: the file is not JSON: ")
    assert json_of(cli, "rules", "list") == before
    assert "No such file" in cli("rules", "validate", str(tmp_path / "none.yaml"), code=1).output


def test_a_file_is_validated_without_any_server(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text("rules:\n- {client_id: a, rate: 5, window: 60}\n")
    run = flask("rules", "validate", str(file))
    assert (run.returncode, run.stdout, run.stderr) == (0, f"{file}: 1 rule, valid\n", "")
