"""Starts the parts of a worker after the fork, and stops them in order."""

from __future__ import annotations

import logging
import random
from functools import partial
from typing import Any

import gevent

from app.api.services import Services
from app.limiter.denied_clients import DeniedClients
from app.limiter.errors import StoreError
from app.limiter.fallback.fallback import MEANING
from app.observability.background import forever
from app.observability.metrics import RULE_COUNTS

FLUSH_SECONDS = 5.0  # between flushes of denials to Redis, with 20 % jitter
NO_REDIS = "Redis cannot decide; until it can, fail_mode decides (%s for rules without one): %s"

log = logging.getLogger(__name__)


def start_worker(services: Services, *, place: int) -> None:
    """Start the parts of one worker after the fork: tracing, the first rules, the scripts. `place`: from 0."""
    gevent.get_hub().print_exception = _log_failure  # otherwise gevent prints to standard error in its own format
    RULE_COUNTS.take(place)
    if services.tracing is not None:
        services.tracing.start()
    services.refresh_loop.start()
    if place == 0:  # one line per node
        _log_fail_mode(services.settings.fail_mode)
    try:
        services.store.load_scripts()
    except StoreError as error:  # Redis may start later; checks load missing scripts
        if place == 0:
            log.warning(NO_REDIS, services.settings.fail_mode, error)
    services.condition.start(place=place)
    gevent.spawn(forever, "counting denied clients", partial(_flush_denials, services.denied_clients))
    gevent.spawn(forever, "noting the use of keys", services.key_use.write_used)


def stop_worker(services: Services) -> None:
    """Stop the parts in order: remove this node, save the rules, export the last spans."""
    services.condition.stop()
    services.refresh_loop.stop()
    if services.tracing is not None:
        services.tracing.stop()


def _log_fail_mode(fail_mode: str) -> None:
    level = logging.WARNING if fail_mode == "open" else logging.INFO
    log.log(level, "FAIL_MODE=%s: while Redis cannot decide, %s", fail_mode, MEANING[fail_mode])


def _log_failure(greenlet: object, *error: Any) -> None:
    log.error("%s failed", greenlet, exc_info=error)


def _flush_denials(denied_clients: DeniedClients) -> None:
    gevent.sleep(FLUSH_SECONDS * random.uniform(0.8, 1.2))
    denied_clients.flush()
