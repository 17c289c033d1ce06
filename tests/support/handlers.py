"""The handler of checks, without a worker around it."""

from __future__ import annotations

import time

from app.api.auth import Authenticator
from app.api.check.encoding import Encoder
from app.api.check.handler import CheckHandler
from app.limiter.limiter import Limiter
from app.limiter.store import RuleSource


def handler_of(rules: RuleSource, limiter: Limiter) -> CheckHandler:
    """A handler that takes checks without a key, and whose answers have no rate limit headers."""
    authenticator = Authenticator(
        bootstrap_key=None, open_checks=True, rules=rules, used=lambda _: None, clock=time.time
    )
    return CheckHandler(
        rules=rules,
        limiter=limiter,
        authenticator=authenticator,
        encoder=Encoder("off", 60),
        new_client_budget=None,
        tracing=None,
        clock=time.perf_counter,
    )
