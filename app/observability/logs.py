"""Logging as text or JSON: one line per record, with the request's correlation id."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

NO_REQUEST = "-"
correlation_id: ContextVar[str] = ContextVar("correlation_id", default=NO_REQUEST)

TEXT = "[%(correlation_id)s] %(asctime)s - %(name)s - %(levelname)s - %(message)s"
TIME_FORMAT = "%Y-%m-%d %H:%M:%S"
# Lines of WARNING and above per worker from one place in the code. Callers and outages could cause one per request.
MAX_LINES, PER_SECONDS = 20, 60.0
MORE = "%s (%d more of these were left out)"
# Escapes of all characters that could end a line or control a terminal.
ESCAPED = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}


def configure(level: str, log_format: str) -> None:
    """Send records at `level` and above, including Python's warnings, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter(TEXT, TIME_FORMAT))
    handler.addFilter(bound())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.getLogger("urllib3").setLevel(logging.INFO)  # DEBUG would show a collector's whole URL, tokens included


def bound() -> Bound:
    """Return this process's rate limit, which all its log handlers share."""
    return _bound


def first_line(error: Exception) -> str:
    """Return the first line of the error. SQLAlchemy adds further lines about itself."""
    return (str(error) or repr(error)).splitlines()[0]


def formatter() -> logging.Formatter | None:
    """Return the formatter of `configure`, for handlers made elsewhere."""
    return logging.root.handlers[0].formatter


class Bound(logging.Filter):
    """Passes at most MAX_LINES lines of WARNING and above from one place per PER_SECONDS.

    The next line then says how many were dropped. Lower levels pass without a limit. `clock` is monotonic seconds.

    A place is identified by its message before formatting, because gunicorn logs all its warnings in one method.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._places: dict[object, _Place] = {}  # one entry per place in the code

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        now = self._clock()
        known_by = record.msg if record.args else (record.pathname, record.lineno)
        place = self._places.setdefault(known_by, _Place(now))
        if now - place.since >= PER_SECONDS:
            place.since, place.passed = now, 0
        if place.passed == MAX_LINES:
            place.left_out += 1
            return False
        place.passed += 1
        if place.left_out:
            record.msg, record.args = MORE, (record.getMessage(), place.left_out)
            place.left_out = 0
        return True


class _Place:
    """`since`: start of the period; `passed`: lines that passed; the rest counts dropped lines not yet reported."""

    __slots__ = ("left_out", "passed", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.passed = self.left_out = 0


_bound = Bound(time.monotonic)


class TextFormatter(logging.Formatter):
    """Caller input cannot forge a log line: messages are escaped, and lines of tracebacks are indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.correlation_id = correlation_id.get()
        record.message = record.message.translate(ESCAPED)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        return "\n".join("  | " + line.translate(ESCAPED) for line in super().formatException(ei).split("\n"))


class JsonFormatter(logging.Formatter):
    """Formats one JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "correlation_id": correlation_id.get(),
            "process": record.process,
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)
