"""Files of rules, JSON or YAML: read whole and valid or not at all, written so that they read back the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from marshmallow import ValidationError

from app.api import yaml_subset
from app.api.decoding import parsed
from app.api.error_messages import MAX_ERRORS, WHOLE, Path, flat, nested
from app.api.problems import Problem
from app.api.rule_forms import rule_from, sendable
from app.api.rule_schemas import RuleSchema
from app.api.schemas import Repeating
from app.rules.documents import document_of
from app.rules.pace import Pace, at_once
from app.rules.rule import Rule

MAX_FILE_RULES = 10_000
MAX_FILE_VALUES = 150_000  # objects and numbers: a limit has three, in 21 bytes at least
YAML = "application/yaml"
YAML_TYPES = (YAML, "application/x-yaml", "text/yaml")
# Left out where they say nothing; client, endpoint and rate are always shown.
SILENT = {"algorithm": None, "burst": None, "action": "limit", "fail_mode": None, "shadow": False, "enabled": True}
SILENT["description"] = ""


@dataclass(frozen=True, slots=True)
class FileError:
    """One thing that is wrong. `path`: of member names and indices; `line`: from 1, None where it is not known."""

    path: Path
    message: str
    line: int | None = None

    def __str__(self) -> str:
        steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in _plain(self.path))
        place = "".join(steps).lstrip(".")
        return f"{place}: {self.message}" if place else self.message


class InvalidRules(Exception):
    """The file was read, but it does not say valid rules. All of it is refused."""

    def __init__(self, errors: Sequence[FileError]) -> None:
        super().__init__(str(errors[0]))
        self.errors = errors[:MAX_ERRORS]
        self.more = len(errors) > MAX_ERRORS  # at least one; nobody has looked for the others

    def as_problem(self) -> Problem:
        """422; `errors` nests as the file does: {"rules": {"3": {"rate": [messages]}}}."""
        first = self.errors[0]
        line = f"line {first.line}: " if first.line else ""
        count = len(self.errors) - 1 + self.more
        others = f" (and {'at least ' if self.more else ''}{count} more)" if count else ""
        errors = nested((error.path or ["file"], error.message) for error in self.errors)
        return Problem(422, f"the rules are not valid: {line}{first}{others}", errors=errors)


def read_rules(raw: bytes, *, yaml: bool, tenant_id: int, default_algorithm: str, pace: Pace = at_once) -> list[Rule]:
    """The rules of a file `{"rules": […]}`. Raises Problem 400 where it is no JSON or YAML, and InvalidRules.

    Takes a second for the largest, in pieces by `pace`; only the parser of JSON takes its 20 ms at once.
    """
    value = _read_yaml(raw, pace) if yaml else parsed(raw, MAX_FILE_VALUES)
    errors, rules = _wrong(value), []
    schema, places = RuleSchema(), dict[tuple[str, str | None, bool], int]()
    for place, item in enumerate(pace([] if errors else value["rules"])):
        if len(errors) > MAX_ERRORS:
            break
        try:
            rule = rule_from(schema.load(item), tenant_id=tenant_id, default_algorithm=default_algorithm)
        except ValidationError as error:
            messages = error.normalized_messages()  # type: ignore[no-untyped-call]
            errors += [FileError(["rules", place, *_plain(path)], message) for path, message in flat(messages)]
            continue
        twin = places.setdefault((rule.client_id, rule.endpoint, rule.shadow), place)
        if twin != place:
            errors.append(FileError(["rules", place], f"The client and endpoint are those of rules[{twin}]."))
        rules.append(rule)
    if errors:
        raise InvalidRules(_with_lines(errors, raw, value, pace))
    return rules


def write_rules(rules: Sequence[Rule], *, yaml: bool, pace: Pace = at_once) -> str:
    """The rules as a file, one a line in JSON."""
    if not rules:
        return yaml_subset.write({"rules": []}) if yaml else '{"rules": []}\n'
    shown = (_shown(rule) for rule in pace(rules))
    if yaml:
        return "rules:\n" + "".join(yaml_subset.write([rule]) for rule in shown)
    return '{"rules": [\n' + ",\n".join("  " + json.dumps(rule, ensure_ascii=False) for rule in shown) + "\n]}\n"


def _read_yaml(raw: bytes, pace: Pace) -> Any:
    try:
        return yaml_subset.read(raw.decode("utf-8"), pace)
    except UnicodeDecodeError:
        raise Problem(400, "the file is not UTF-8") from None
    except yaml_subset.YamlError as error:
        line = f"line {error.line}: " if error.line else ""
        raise Problem(400, f"the file is not YAML: {line}{error}") from None


def _wrong(value: Any) -> list[FileError]:
    """What is wrong around the rules."""
    if not isinstance(value, dict):
        return [FileError([], 'A file holds {"rules": […]}.')]
    if isinstance(value, Repeating):
        return [FileError([value.name], "Given more than once.")]
    if unknown := [FileError([name], "Unknown field.") for name in value if name != "rules"]:
        return unknown
    if not isinstance(value.get("rules"), list):
        return [FileError(["rules"], "This must be a list of rules.")]
    if len(value["rules"]) > MAX_FILE_RULES:
        return [FileError(["rules"], f"There are {len(value['rules'])}, at most {MAX_FILE_RULES}.")]
    return []


def _plain(path: Path) -> Path:
    """What is about a whole object goes by the object's path."""
    return [name for name in path if name != WHOLE]


def _with_lines(errors: list[FileError], raw: bytes, value: Any, pace: Pace) -> list[FileError]:
    """The errors with their lines, as far as a reader of YAML finds them: it reads JSON too."""
    if not isinstance(value, yaml_subset.Members):
        try:
            value = yaml_subset.read(raw.decode(), pace)
        except yaml_subset.YamlError:
            return errors
    return [FileError(error.path, error.message, yaml_subset.line_of(value, error.path)) for error in errors]


def _shown(rule: Rule) -> dict[str, Any]:
    fields = sendable(document_of(rule))
    return {name: value for name, value in fields.items() if name not in SILENT or value != SILENT[name]}
