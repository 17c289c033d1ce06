"""What Redis holds of a tenant that was deleted."""

from __future__ import annotations

import time
from types import SimpleNamespace

from app.cli.resources.context import means, session, store
from app.limiter.denied_clients import LimitedClients
from app.limiter.redis.tenant_cleanup import SETTLE_SECONDS, DeletedTenants
from app.rules.sql.ruleset_version import Editions


def forget_counters(tenant_id: int) -> int:
    """Wait until no worker decides for the tenant any more, then delete its counters; how many keys."""
    settle = means().settle_seconds
    edition = Editions(session()).current()
    rules = SimpleNamespace(book=SimpleNamespace(edition=edition))  # all that keys are spelled by
    limited = LimitedClients(store=store(), rules=rules, clock=time.time)
    seconds = SETTLE_SECONDS if settle is None else settle
    subject = DeletedTenants(store=store(), rules=rules, limited_clients=limited, settle_seconds=seconds)
    return subject.forget(tenant_id)
