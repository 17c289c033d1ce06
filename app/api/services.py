"""The parts of the wired application that views and hooks use, typed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from flask import current_app

if TYPE_CHECKING:
    from app.api.auth import Authenticator
    from app.api.check.encoding import Encoder
    from app.api.check.handler import CheckHandler
    from app.api.forward_auth.authorizer import Authorizer
    from app.api.ops.condition import Condition
    from app.config import Settings
    from app.limiter.breaker.per_primary import AnyBreaker
    from app.limiter.denied_clients import DeniedClients
    from app.limiter.leases import Leases
    from app.limiter.redis.cluster_store import ClusterStore
    from app.limiter.redis.store import RedisStore
    from app.limiter.redis.tenant_cleanup import TenantCleanup
    from app.nodes.comparison import SharedClock
    from app.observability.active_clients import ActiveClients
    from app.observability.sampling import Tracing
    from app.rules.sql.access.key_use import KeyUse
    from app.rules.sync.refresh_loop import RefreshLoop
    from app.rules.sync.reloader import RuleReloader
    from app.rules.sync.yielding import Pace


class Draining(Protocol):
    """Whether the node is about to stop."""

    @property
    def draining(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of the wired application that views and hooks use: `app.extensions["ratelimiter"]`."""

    settings: Settings
    check_handler: CheckHandler
    encoder: Encoder
    leases: Leases
    authenticator: Authenticator
    authorizer: Authorizer
    key_use: KeyUse
    clock: SharedClock
    reloader: RuleReloader
    refresh_loop: RefreshLoop
    store: RedisStore | ClusterStore
    breaker: AnyBreaker
    condition: Condition
    active_clients: ActiveClients
    denied_clients: DeniedClients
    tenant_cleanup: TenantCleanup
    tracing: Tracing | None
    metrics: Callable[[], bytes] | None
    pace: Pace
    drain: Draining


def services() -> Services:
    """The services of the application that handles the request."""
    found: Services = current_app.extensions["ratelimiter"]
    return found
