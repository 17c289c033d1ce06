"""For asyncio: `AsyncRateLimiter`, over the same core as `RateLimiter`, and what it connects by."""

from ratelimiter_client.aio.client import AsyncRateLimiter

__all__ = ["AsyncRateLimiter"]
