"""YAML as rule files need it: JSON's values in YAML's spelling. No anchors, aliases, tags or merge keys.

It is read event by event. The nodes that PyYAML builds from deep nesting end the process, and aliases can ask for more
memory than there is. Unlike in YAML 1.1, `no` and `12:30` are texts. JSON is YAML too, so this finds lines in JSON as
well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from app.rules.sync.yielding import Pace, unpaced

MAX_DEPTH = 10  # a rule's limit lies four deep
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
# Words without need of quotes that YAML 1.1 does not take for texts.
OTHER = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
PLAIN = re.compile("[A-Za-z][A-Za-z0-9_.*@+/-]*( [A-Za-z0-9_.*@+/-]+)*")
# Escaped, though JSON does not require it: YAML takes some of these for a line end, and refuses others.
ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
IN_JSON = json.JSONEncoder(ensure_ascii=False).encode
INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,18})")
NUMBER = re.compile(r"[-+]?[0-9]+\.[0-9]*([eE][-+][0-9]+)?")


class YamlError(Exception):
    """An error, with `line`, from 1, if it is known."""

    def __init__(self, message: str, line: int | None) -> None:
        super().__init__(message)
        self.line = line


class Members(dict[str, Any]):
    """A mapping with the line of each of its values."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}


class Items(list[Any]):
    """A sequence with the line of each of its items."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[int] = []


def read(text: str) -> Any:
    """The only document of the text, made of Members, Items, str, int, float, bool and None. Raises YamlError."""
    found = events(text)
    document = value(next(found, None), found, MAX_DEPTH)
    if (more := next(found, None)) is not None:
        raise YamlError("there is more than one document", line_at(more))
    return document


def events(source: Any, pace: Pace = unpaced) -> Iterator[yaml.Event]:
    """The events of a text or a stream of text, without those that frame documents. Raises YamlError."""
    frames = (yaml.StreamStartEvent, yaml.StreamEndEvent, yaml.DocumentStartEvent, yaml.DocumentEndEvent)
    try:
        for event in pace(yaml.parse(source, Loader=LOADER)):
            if not isinstance(event, frames):
                yield event
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise YamlError(error.problem or "this is no YAML", line) from None
    except yaml.YAMLError as error:
        raise YamlError(str(error).splitlines()[0], None) from None


def write(value: Any, indent: str = "") -> str:
    """The value as YAML, in the order of its members. Reads back the same by YAML 1.1 and 1.2."""
    deeper = indent + "  "
    if isinstance(value, dict) and value:
        return "".join(f"{indent}{_scalar_text(name)}:{_inside(inner, deeper)}" for name, inner in value.items())
    if isinstance(value, list) and value:
        return "".join(f"{indent}- {write(inner, deeper).lstrip(' ')}" for inner in value)
    return f"{indent}{_scalar_text(value)}\n"


def line_of(value: Any, path: list[Any], line: int = 1) -> int:
    """The line of the value at this path of member names and indices, or of the nearest value around it.

    `line`: the line of `value` itself.
    """
    for step in path:
        known = isinstance(value, Members) and step in value.lines
        if not known and not (isinstance(value, Items) and isinstance(step, int) and step < len(value)):
            return line
        line, value = value.lines[step], value[step]
    return line


def value(event: yaml.Event | None, events: Iterator[yaml.Event], depth: int) -> Any:
    """The value that begins with this event. Raises YamlError, also beyond `depth` levels."""
    if event is None:
        return None
    refuse_references(event)
    if isinstance(event, yaml.ScalarEvent):
        return _scalar(event) if event.implicit[0] else event.value
    if not depth:
        raise YamlError(f"nested more than {MAX_DEPTH} deep", line_at(event))
    inside = _items if isinstance(event, yaml.SequenceStartEvent) else _members
    return inside(events, depth - 1)


def refuse_references(event: yaml.Event) -> None:
    """Raises YamlError for an anchor, a tag or an alias."""
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
        raise YamlError("anchors and aliases are not allowed here", line_at(event))
    if getattr(event, "tag", None) is not None:
        raise YamlError("tags are not allowed here", line_at(event))


def line_at(event: Any) -> int:
    """The line on which the event begins, from 1."""
    return int(event.start_mark.line) + 1


def _items(events: Iterator[yaml.Event], depth: int) -> Items:
    items = Items()
    while not isinstance(event := next(events), yaml.SequenceEndEvent):
        items.lines.append(line_at(event))
        items.append(value(event, events, depth))
    return items


def _members(events: Iterator[yaml.Event], depth: int) -> Members:
    members = Members()
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        name, line = value(event, events, depth), line_at(event)
        if not isinstance(name, str):
            raise YamlError("a name must be a text", line)
        if name in members:
            raise YamlError(f"{name} is given more than once", line)
        members.lines[name] = line
        members[name] = value(next(events), events, depth)
    return members


def _scalar(event: yaml.ScalarEvent) -> Any:
    """A plain scalar. A text that the writer leaves unquoted must be a text here too."""
    text = event.value
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    if INTEGER.fullmatch(text):
        return int(text)
    return float(text) if NUMBER.fullmatch(text) else text


def _inside(value: Any, indent: str) -> str:
    """The value of a member, including the blank or line end after the colon."""
    return f"\n{write(value, indent)}" if isinstance(value, dict | list) and value else f" {_scalar_text(value)}\n"


def _scalar_text(value: Any) -> str:
    if isinstance(value, str) and PLAIN.fullmatch(value) and value.lower() not in OTHER:
        return value
    text = IN_JSON(value)
    return ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text) if isinstance(value, str) else text
