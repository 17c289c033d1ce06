"""Logging: the text format of the seed or JSON, with the correlation id of the request on every line."""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar

correlation_id: ContextVar[str] = ContextVar("correlation_id", default="-")

TEXT = "[%(correlation_id)s] %(asctime)s - %(name)s - %(levelname)s - %(message)s"


def configure(level: str, log_format: str) -> None:
    """Send everything at `level` and above to standard error, one line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_with_correlation_id)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter(TEXT))
    logging.basicConfig(level=level, handlers=[handler], force=True)


def _with_correlation_id(record: logging.LogRecord) -> bool:
    record.correlation_id = correlation_id.get()
    return True


class TextFormatter(logging.Formatter):
    """Line breaks in a message are escaped: what a caller sends cannot pose as a line of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = record.message.replace("\r", "\\r").replace("\n", "\\n")
        return super().formatMessage(record)


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "correlation_id": record.__dict__["correlation_id"],
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)
