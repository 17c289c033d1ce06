"""YAML as rule files need it: what JSON can say, in YAML's spelling. No anchors, aliases, tags or merge keys.

Read event by event: the nodes that PyYAML builds from deep nesting end the process, and aliases can ask for more memory
than there is. Unlike YAML 1.1, `no` and `12:30` are texts. JSON is YAML too, so lines can be found in it as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import yaml

from app.rules.pace import Pace, at_once

MAX_DEPTH = 10  # a rule's limit lies four deep
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,18})")
NUMBER = re.compile(r"[-+]?[0-9]+\.[0-9]*([eE][-+][0-9]+)?")


class YamlError(Exception):
    """What is wrong, with `line`, counted from 1, where it is known."""

    def __init__(self, message: str, line: int | None) -> None:
        super().__init__(message)
        self.line = line


class Members(dict[str, Any]):
    """A mapping that knows on which line each of its values is."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}


class Items(list[Any]):
    """A sequence that knows on which line each of its items is."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[int] = []


def read(text: str, pace: Pace = at_once) -> Any:
    """The one document of the text, made of Members, Items, str, int, float, bool and None. Raises YamlError."""
    try:
        events = _content(pace(yaml.parse(text, Loader=LOADER)))
        value = _value(next(events, None), events, MAX_DEPTH)
        if (more := next(events, None)) is not None:
            raise YamlError("there is more than one document", _line(more))
        return value
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise YamlError(error.problem or "this is no YAML", line) from None
    except yaml.YAMLError as error:
        raise YamlError(str(error).splitlines()[0], None) from None


def write(value: Any) -> str:
    """The value, in the order of its members."""
    text: str = yaml.dump(value, Dumper=DUMPER, sort_keys=False, allow_unicode=True, width=120)
    return text


def line_of(value: Any, path: list[Any]) -> int:
    """The line of what lies at this path of member names and indices, or of the nearest thing around it."""
    line = 1
    for step in path:
        known = isinstance(value, Members) and step in value.lines
        if not known and not (isinstance(value, Items) and isinstance(step, int) and step < len(value)):
            return line
        line, value = value.lines[step], value[step]
    return line


def _content(events: Iterable[yaml.Event]) -> Iterator[yaml.Event]:
    """Without what only frames documents."""
    frames = (yaml.StreamStartEvent, yaml.StreamEndEvent, yaml.DocumentStartEvent, yaml.DocumentEndEvent)
    return (event for event in events if not isinstance(event, frames))


def _value(event: yaml.Event | None, events: Iterator[yaml.Event], depth: int) -> Any:
    if event is None:
        return None
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
        raise YamlError("anchors and aliases are not allowed here", _line(event))
    if getattr(event, "tag", None) is not None:
        raise YamlError("tags are not allowed here", _line(event))
    if isinstance(event, yaml.ScalarEvent):
        return _scalar(event) if event.implicit[0] else event.value
    if not depth:
        raise YamlError(f"nested more than {MAX_DEPTH} deep", _line(event))
    inside = _items if isinstance(event, yaml.SequenceStartEvent) else _members
    return inside(events, depth - 1)


def _items(events: Iterator[yaml.Event], depth: int) -> Items:
    items = Items()
    while not isinstance(event := next(events), yaml.SequenceEndEvent):
        items.lines.append(_line(event))
        items.append(_value(event, events, depth))
    return items


def _members(events: Iterator[yaml.Event], depth: int) -> Members:
    members = Members()
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        name, line = _value(event, events, depth), _line(event)
        if not isinstance(name, str):
            raise YamlError("a name must be a text", line)
        if name in members:
            raise YamlError(f"{name} is given more than once", line)
        members.lines[name] = line
        members[name] = _value(next(events), events, depth)
    return members


def _scalar(event: yaml.ScalarEvent) -> Any:
    """A plain scalar. What the writer leaves unquoted as a text must be one here too."""
    text = event.value
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    if INTEGER.fullmatch(text):
        return int(text)
    return float(text) if NUMBER.fullmatch(text) else text


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1
