"""gunicorn's own log lines, in the form and within the bound of all others."""

from __future__ import annotations

import logging
from typing import Any

from gunicorn import glogging

from app.observability import logs


class Logger(glogging.Logger):
    """gunicorn's settings choose the destinations. Call `logs.configure` first."""

    def _set_handler(self, log: logging.Logger, output: str | None, fmt: Any, stream: Any = None) -> None:
        super()._set_handler(log, output, logs.formatter() or fmt, stream)
        for handler in log.handlers:
            handler.addFilter(logs.bound())
