"""Files of rules, JSON or YAML: read whole and valid or not at all, written so that they read back the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from marshmallow import ValidationError

from app.api.admin.import_export import yaml_subset
from app.api.admin.import_export.fast_decoding import fast_rule
from app.api.admin.import_export.json_items import items_of_json
from app.api.admin.import_export.yaml_items import Item, WrongShape, items_of_yaml
from app.api.admin.rules.rule_json import rule_from, sendable
from app.api.admin.rules.schemas import RuleSchema
from app.api.error_messages import MAX_ERRORS, WHOLE, Path, flat, nested
from app.api.problems import Problem
from app.rules.documents import ADDED, document_of
from app.rules.rule import Identity, Rule
from app.rules.sql.changes import MAX_RULES
from app.rules.sync.yielding import Pace, let_go, unpaced

PIECE_CHARACTERS = 64 * 1024  # of a file that is written
YAML = "application/yaml"
YAML_TYPES = (YAML, "application/x-yaml", "text/yaml")
# Omitted if they have these values; endpoint and rate are always written.
OMITTED_DEFAULTS = {
    "algorithm": None,
    "burst": None,
    "action": "limit",
    "fail_mode": None,
    "shadow": False,
    "enabled": True,
}
OMITTED_DEFAULTS |= ADDED | {"client_id": None, "description": ""}


@dataclass(frozen=True, slots=True)
class FileError:
    """One error. `path`: member names and indices; `line`: from 1, None if unknown."""

    path: Path
    message: str
    line: int | None = None

    def __str__(self) -> str:
        steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in _without_whole(self.path))
        place = "".join(steps).lstrip(".")
        return f"{place}: {self.message}" if place else self.message


class InvalidRules(Exception):
    """The file was read, but its rules are not valid. All of it is refused."""

    def __init__(self, errors: Sequence[FileError]) -> None:
        super().__init__(str(errors[0]))
        self.errors = errors[:MAX_ERRORS]
        self.more = len(errors) > MAX_ERRORS  # whether there are more errors, whose number is unknown

    def as_problem(self) -> Problem:
        """A 422; `errors` nests as the file does: {"rules": {"3": {"rate": [messages]}}}."""
        first = self.errors[0]
        line = f"line {first.line}: " if first.line else ""
        count = len(self.errors) - 1 + self.more
        others = f" (and {'at least ' if self.more else ''}{count} more)" if count else ""
        errors = nested((error.path or ["file"], error.message) for error in self.errors)
        return Problem(422, f"the rules are not valid: {line}{first}{others}", errors=errors)


def read_rules(
    file: BinaryIO, *, yaml: bool, tenant_id: int, default_algorithm: str, pace: Pace = unpaced
) -> list[Rule]:
    """The rules of a file `{"rules": […]}`. Raises Problem 400 where it is no JSON or YAML, and InvalidRules.

    Reads in pieces by `pace`: a rule takes some 30 µs in JSON, 150 µs in YAML.
    """
    errors, rules = list[FileError](), list[Rule]()
    schema, places = RuleSchema(), dict[Identity, int]()
    try:
        for place, item in enumerate(pace(items_of_yaml(file, pace) if yaml else items_of_json(file, pace))):
            if place == MAX_RULES:
                errors.append(FileError(["rules"], f"There are more than {MAX_RULES}."))
                break
            if len(errors) > MAX_ERRORS:
                break
            try:
                sent = fast_rule(item.value) or schema.load(item.value)
                rule = rule_from(sent, tenant_id=tenant_id, default_algorithm=default_algorithm)
            except ValidationError as error:
                errors += _in_file(error, place, item)
                if isinstance(item.value, dict):
                    continue
                break  # the items are no rules, so further ones would repeat the error
            twin = places.setdefault(rule.identity, place)
            if twin != place:
                message = f"The layer, client or group, and endpoint are those of rules[{twin}]."
                errors.append(FileError(["rules", place], message, item.line))
            rules.append(rule)
        let_go(pace, places)
    except WrongShape as wrong:
        errors.append(FileError(wrong.path, str(wrong), wrong.line))
    except yaml_subset.YamlError as error:
        line = f"line {error.line}: " if error.line else ""
        raise Problem(400, f"the file is not YAML: {line}{error}", kind="malformed-body") from None
    if errors:
        let_go(pace, rules)
        raise InvalidRules(errors)
    return rules


def write_rules(rules: Iterable[Rule], *, yaml: bool) -> Iterator[str]:
    """The rules as a file, in JSON one rule a line: pieces of text, each made when it is consumed."""
    rest = iter(rules)
    first = next(rest, None)
    if first is None:
        yield yaml_subset.write({"rules": []}) if yaml else '{"rules": []}\n'
        return
    if yaml:
        yield f"rules:\n{yaml_subset.write([_file_rule(first)])}"
        yield from (yaml_subset.write([_file_rule(rule)]) for rule in rest)
        return
    yield f'{{"rules": [\n  {_in_json(first)}'
    yield from (f",\n  {_in_json(rule)}" for rule in rest)
    yield "\n]}\n"


def in_pieces(texts: Iterable[str]) -> Iterator[bytes]:
    """The texts, joined to pieces that are worth a system call each."""
    piece, length = list[str](), 0
    for text in texts:
        piece.append(text)
        length += len(text)
        if length >= PIECE_CHARACTERS:
            yield "".join(piece).encode()
            piece, length = [], 0
    yield "".join(piece).encode()


def _in_file(error: ValidationError, place: int, item: Item) -> Iterator[FileError]:
    messages, line_of = error.normalized_messages(), item.lines()  # type: ignore[no-untyped-call]
    for path, message in flat(messages):
        yield FileError(["rules", place, *_without_whole(path)], message, line_of(_without_whole(path)))


def _without_whole(path: Path) -> Path:
    """The path of a message about a whole object is the object's path."""
    return [name for name in path if name != WHOLE]


def _in_json(rule: Rule) -> str:
    return yaml_subset.IN_JSON(_file_rule(rule))


def _file_rule(rule: Rule) -> dict[str, Any]:
    fields = sendable(document_of(rule))
    return {
        name: value for name, value in fields.items() if name not in OMITTED_DEFAULTS or value != OMITTED_DEFAULTS[name]
    }
