"""The rules of a JSON file one by one, as they are read."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, NoReturn

from app.api.admin.import_export.yaml_items import MAX_ITEM_VALUES, NO_FILE, NO_LIST, PART, UNKNOWN, Item, WrongShape
from app.api.problems import Problem
from app.api.schemas import Repeating
from app.api.strict_json import Hooks, no_constant, parsed
from app.rules.sync.yielding import Pace

MAX_ITEM = 64 * 1024  # characters of a rule, equal to the bound of a rule's own request
MAX_STRANGE = 1024 * 1024  # bytes read at once, to explain a file that does not begin or end as a file of rules
BEGINNING = re.compile(r'[ \t\n\r]*\{[ \t\n\r]*"rules"[ \t\n\r]*:[ \t\n\r]*\[')
REPEATED = "Given more than once."
BLANK = re.compile(r"[ \t\n\r]*")


def items_of_json(file: BinaryIO, pace: Pace) -> Iterator[Item]:
    """The rules of the file. Raises Problem 400, or 422 for a rule with too many values, and WrongShape."""
    text = _Text(file, pace)
    text.fill()
    beginning = BEGINNING.match(text.known)
    if beginning is None:
        _refuse(parsed(text.rest(), MAX_ITEM_VALUES))
    text.at = beginning.end()
    sign = text.take("]") if text.sign() == "]" else ","
    decoder = _Decoder()
    while sign == ",":
        text.sign()
        text.fill()
        line, begin = text.line(), text.at
        value, text.at = decoder.value(text)
        yield Item(value, line, text.known[begin : text.at])
        sign = text.take(",]")
    if text.take(",}") == ",":
        _refuse(parsed(b"{" + text.rest(), MAX_ITEM_VALUES), known=True)
    if text.sign():
        text.refuse("Extra data")


class _Text:
    """The part of the text that is read so far; everything before `at` is consumed."""

    def __init__(self, file: BinaryIO, pace: Pace) -> None:
        self.known, self.at = "", 0
        self._file = file
        self._parts = iter(pace(iter(lambda: file.read(PART), b"")))
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()  # with a byte order mark or without, as YAML
        self._line, self._counted = 1, 0  # the line number at `_counted`
        self._ended = False

    def fill(self) -> bool:
        """Read until MAX_ITEM characters lie ahead, or the end. Returns whether anything was read."""
        read = False
        while not self._ended and len(self.known) - self.at < MAX_ITEM:
            part = next(self._parts, b"")
            self._ended, read = not part, read or bool(part)
            try:
                text = self._decoder.decode(part, final=self._ended)
            except UnicodeDecodeError:
                raise Problem(400, "the body is not UTF-8", kind="malformed-body") from None
            self.line()
            self.known, self.at, self._counted = self.known[self.at :] + text, 0, 0
        return read

    def sign(self) -> str:
        """The next character that is not blank, without consuming it; empty at the end."""
        while True:
            blank = BLANK.match(self.known, self.at)
            self.at = blank.end() if blank else self.at
            if self.at < len(self.known) or not self.fill():
                return self.known[self.at : self.at + 1]

    def take(self, allowed: str) -> str:
        """Consume the next character that is not blank. It must be one of `allowed`."""
        sign = self.sign()
        if not sign or sign not in allowed:
            self.refuse("Expecting " + " or ".join(map(repr, allowed)))
        self.at += 1
        return sign

    def line(self) -> int:
        """The line number of the next character."""
        self._line += self.known.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line

    def rest(self) -> bytes:
        """The rest of the file. Raises WrongShape beyond MAX_STRANGE bytes."""
        rest = self.known[self.at :].encode() + self._decoder.getstate()[0] + self._file.read(MAX_STRANGE)
        if len(rest) > MAX_STRANGE:
            raise WrongShape([], NO_FILE, self.line())
        return rest

    def refuse(self, what: str) -> NoReturn:
        raise Problem(400, f"the body is not JSON: {what}: line {self.line()}", kind="malformed-body")


class _Decoder:
    """Reads single values."""

    def __init__(self) -> None:
        self._hooks = Hooks(MAX_ITEM_VALUES, "rules", "One of them has more than {} objects and numbers.")
        self._decode = json.JSONDecoder(
            parse_int=self._hooks.integer, parse_constant=no_constant, object_pairs_hook=self._hooks.members
        ).raw_decode

    def value(self, text: _Text) -> tuple[Any, int]:
        """The next value, and the place where it ends."""
        self._hooks.begin()
        try:
            value, end = self._decode(text.known, text.at)
        except RecursionError:
            raise Problem(400, "the body is nested too deeply", kind="malformed-body") from None
        except json.JSONDecodeError as error:
            cut_off = error.msg.startswith("Unterminated") or error.pos >= len(text.known) - len("false")
            if cut_off and len(text.known) - text.at >= MAX_ITEM:
                raise _too_long(text) from None
            text.at = min(error.pos, len(text.known))
            text.refuse(error.msg)
        except ValueError as error:
            text.refuse(str(error))
        if end - text.at > MAX_ITEM:
            raise _too_long(text)
        return value, end


def _too_long(text: _Text) -> WrongShape:
    return WrongShape(["rules"], f"One of them has more than {MAX_ITEM} characters.", text.line())


def _refuse(value: Any, *, known: bool = False) -> NoReturn:
    """Explain the value of a file that does not begin with its rules, or the text that follows them."""
    if not isinstance(value, dict):
        raise WrongShape([], NO_FILE)
    if isinstance(value, Repeating):
        raise WrongShape([value.name], REPEATED)
    if known and "rules" in value:
        raise WrongShape(["rules"], REPEATED)
    for name in value:
        if name != "rules":
            raise WrongShape([name], UNKNOWN)
    raise WrongShape(["rules"], NO_LIST)
