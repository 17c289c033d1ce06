"""A client of the Distributed Rate Limiter: `RateLimiter(url).check(client_id, limit_key)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratelimiter_client import identify
from ratelimiter_client.client import RateLimiter
from ratelimiter_client.decision import Check, Decision, Lease
from ratelimiter_client.errors import RateLimited, RateLimiterError
from ratelimiter_client.health import Health
from ratelimiter_client.leasing.leased import LeasedLimiter
from ratelimiter_client.middleware import RateLimitMiddleware
from ratelimiter_client.web.exempting import preflight
from ratelimiter_client.web.gate import Limiter

if TYPE_CHECKING:
    from ratelimiter_client.aio import AsyncRateLimiter

__version__ = "0.2.0"

__all__ = [
    "AsyncRateLimiter",
    "Check",
    "Decision",
    "Health",
    "Lease",
    "LeasedLimiter",
    "Limiter",
    "RateLimitMiddleware",
    "RateLimited",
    "RateLimiter",
    "RateLimiterError",
    "identify",
    "preflight",
]


def __getattr__(name: str) -> Any:
    """Import AsyncRateLimiter on first use: an application without asyncio need not import it."""
    if name == "AsyncRateLimiter":
        from ratelimiter_client.aio import AsyncRateLimiter

        return AsyncRateLimiter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
