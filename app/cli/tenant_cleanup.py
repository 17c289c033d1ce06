"""Deletes the keys of a deleted tenant from Redis."""

from __future__ import annotations

import time
from types import SimpleNamespace

from app.cli.resources.context import command_context, session, store
from app.limiter.denied_clients import DeniedClients
from app.limiter.redis.tenant_cleanup import SETTLE_SECONDS, TenantCleanup
from app.rules.sql.ruleset_version import RulesetVersions


def forget_counters(tenant_id: int) -> int:
    """Wait until no worker decides for the tenant any more, then delete its counters. Returns the number of keys."""
    settle = command_context().settle_seconds
    ruleset_id = RulesetVersions(session()).current()
    # The only part of a book that spelling keys needs.
    rules = SimpleNamespace(book=SimpleNamespace(ruleset_id=ruleset_id))
    limited = DeniedClients(store=store(), rules=rules, clock=time.time)
    seconds = SETTLE_SECONDS if settle is None else settle
    subject = TenantCleanup(store=store(), rules=rules, denied_clients=limited, settle_seconds=seconds)
    return subject.forget(tenant_id)
