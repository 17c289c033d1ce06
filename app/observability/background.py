"""Endless background work of a worker."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NoReturn

import gevent

from app.observability.metrics import BACKGROUND_ERRORS

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0  # after a failure, so that a lasting one neither fills the log nor delays checks


def forever(name: str, step: Callable[[], object]) -> NoReturn:
    """Call `step`, which waits by itself, again and again. A failure is logged and counted, then work continues."""
    while True:
        try:
            step()
        except Exception:
            BACKGROUND_ERRORS.labels(name).inc()
            log.exception("%s failed, and will be tried again", name)
            gevent.sleep(RETRY_SECONDS)
