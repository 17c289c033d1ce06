"""For tests of an application: `FakeLimiter({"login": (5, 60)})` in the place of a client, without a service."""

from ratelimiter_client.testing.limiter import AsyncFakeLimiter, FakeLimiter
from ratelimiter_client.testing.service import Call

__all__ = ["AsyncFakeLimiter", "Call", "FakeLimiter"]
