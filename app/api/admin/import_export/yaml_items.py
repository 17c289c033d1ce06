"""The rules of a YAML file one by one, as they are read: a file of 100,000 is never in memory as values."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import yaml

from app.api.admin.import_export import yaml_subset
from app.api.admin.import_export.yaml_subset import MAX_DEPTH, YamlError
from app.api.error_messages import Path
from app.api.problems import Problem
from app.rules.sync.yielding import Pace

MAX_ITEM_VALUES = 1000  # of a rule: objects and numbers, in YAML all its parts; a rule with 8 limits has some 100
PART = 16 * 1024  # bytes
# Characters without an event, as in one long text, comment or run of blanks: the parser reads these in one piece.
MAX_GAP = 256 * 1024
MAX_DIRECTIVES = 100  # without an event; PyYAML compares each with all before it
DIRECTIVE = re.compile("[\n\r\x85\u2028\u2029]%")
NO_FILE = 'A file holds {"rules": […]}.'
NO_LIST = "This must be a list of rules."
UNKNOWN = "Unknown field."


class WrongShape(Exception):
    """The file is JSON or YAML, but not `{"rules": […]}`. `line`: from 1, None if unknown."""

    def __init__(self, path: Path, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.line = line


@dataclass(frozen=True, slots=True)
class Item:
    """One of the rules. `line`: its first line; `text`: its JSON, None for YAML."""

    value: Any
    line: int
    text: str | None = None

    def lines(self) -> Callable[[Path], int]:
        """A function from a path in the rule to its line, or to the line of the nearest value around it."""
        if self.text is None:
            return lambda path: yaml_subset.line_of(self.value, path, self.line)
        try:  # JSON is YAML, except for some escapes
            value = yaml_subset.read(self.text)
        except YamlError:
            value = None
        return lambda path: yaml_subset.line_of(value, path) + self.line - 1


def items_of_yaml(file: BinaryIO, pace: Pace) -> Iterator[Item]:
    """The rules of the file. Raises YamlError, Problem 400 where the bytes are not UTF-8, and WrongShape."""
    text = _Text(file, pace)
    try:
        yield from _items(text.watch(yaml_subset.events(text, pace)))
    except (YamlError, WrongShape):
        if text.error is None:
            raise
    if text.error is not None:
        raise text.error


def _items(events: Iterator[yaml.Event]) -> Iterator[Item]:
    root, known = next(events, None), False
    if not isinstance(root, yaml.MappingStartEvent):
        _value(root, events, MAX_DEPTH)
        raise WrongShape([], NO_FILE, 1)
    yaml_subset.refuse_references(root)
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        line, name = yaml_subset.line_at(event), _value(event, events, MAX_DEPTH - 1)
        if name == "rules" and known:
            raise YamlError("rules is given more than once", line)
        if name != "rules":
            _value(next(events), events, MAX_DEPTH - 1)
            raise WrongShape([str(name)], UNKNOWN, line)
        known, rules = True, next(events)
        if not isinstance(rules, yaml.SequenceStartEvent):
            _value(rules, events, MAX_DEPTH - 1)
            raise WrongShape(["rules"], NO_LIST, line)
        yaml_subset.refuse_references(rules)
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            yield Item(_value(event, events, MAX_DEPTH - 2), yaml_subset.line_at(event))
    if not known:
        raise WrongShape(["rules"], NO_LIST, 1)
    if (more := next(events, None)) is not None:
        raise YamlError("there is more than one document", yaml_subset.line_at(more))


def _value(event: yaml.Event | None, events: Iterator[yaml.Event], depth: int) -> Any:
    """The value that begins with this event. Raises YamlError beyond MAX_ITEM_VALUES parts."""

    def few() -> Iterator[yaml.Event]:
        for number, part in enumerate(events):
            if number == MAX_ITEM_VALUES:
                raise YamlError(f"a rule has more than {MAX_ITEM_VALUES} parts", yaml_subset.line_at(part))
            yield part

    return yaml_subset.value(event, few(), depth)


class _Text:
    """The stream that PyYAML reads. PyYAML would lose an exception, so an error ends the stream and is kept in
    `error`.
    """

    def __init__(self, file: BinaryIO, pace: Pace) -> None:
        self.error: Exception | None = None
        self._line, self._length, self._directives = 1, 0, 0  # the line of the last event, and the amount read since
        # Paced here too: an endless text makes no event.
        self._parts = iter(pace(iter(lambda: file.read(PART), b"")))
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def watch(self, events: Iterator[yaml.Event]) -> Iterator[yaml.Event]:
        """The events that the parser makes from this stream."""
        for event in events:
            self._line, self._length, self._directives = yaml_subset.line_at(event), 0, 0
            yield event

    def read(self, _: int) -> str:
        try:
            while part := next(self._parts, b""):
                if text := self._decoder.decode(part):
                    return self._bounded(text)
            return self._decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            self.error = Problem(400, "the file is not UTF-8", kind="malformed-body")
            return ""

    def _bounded(self, text: str) -> str:
        self._length += len(text)
        self._directives += len(DIRECTIVE.findall(text))
        if self._length > MAX_GAP:
            told = f"a text, or comments and blanks, of more than {MAX_GAP} characters"
            self.error = YamlError(told, self._line)
        elif self._directives > MAX_DIRECTIVES:
            self.error = YamlError(f"more than {MAX_DIRECTIVES} lines that begin with %", self._line)
        return "" if self.error else text
