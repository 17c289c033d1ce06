"""For asyncio: `AsyncRateLimiter`, over the same core as `RateLimiter`, and its connections."""

from ratelimiter_client.aio.client import AsyncRateLimiter

__all__ = ["AsyncRateLimiter"]
