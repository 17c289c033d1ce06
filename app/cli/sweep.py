"""What Redis holds of a tenant that was deleted."""

from __future__ import annotations

import time
from types import SimpleNamespace

from app.cli.means import means, store
from app.limiter.deleted_tenants import SETTLE_SECONDS, DeletedTenants
from app.limiter.limited_clients import LimitedClients


def forget_counters(tenant_id: int) -> int:
    """Wait until no worker decides for the tenant any more, then delete its counters; how many keys."""
    settle = means().settle_seconds
    limited = LimitedClients(store=store(), rules=SimpleNamespace(book=None), clock=time.time)
    seconds = SETTLE_SECONDS if settle is None else settle
    return DeletedTenants(store=store(), limited_clients=limited, settle_seconds=seconds).forget(tenant_id)
