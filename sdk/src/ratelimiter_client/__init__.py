"""A client of the Distributed Rate Limiter: `RateLimiter(url).check(client_id, limit_key)`."""

from ratelimiter_client.client import RateLimiter
from ratelimiter_client.decision import Check, Decision, Lease
from ratelimiter_client.errors import RateLimited, RateLimiterError

__all__ = ["Check", "Decision", "Lease", "RateLimited", "RateLimiter", "RateLimiterError"]
