"""A client of the Distributed Rate Limiter: `RateLimiter(url).check(client_id, limit_key)`."""

from ratelimiter_client import identify
from ratelimiter_client.client import RateLimiter
from ratelimiter_client.decision import Check, Decision, Lease
from ratelimiter_client.errors import RateLimited, RateLimiterError
from ratelimiter_client.exempting import preflight
from ratelimiter_client.gate import Limiter
from ratelimiter_client.health import Health
from ratelimiter_client.leased import LeasedLimiter
from ratelimiter_client.middleware import RateLimitMiddleware

__all__ = [
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
