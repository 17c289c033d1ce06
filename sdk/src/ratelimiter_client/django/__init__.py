"""For Django: `"ratelimiter_client.django.RateLimitMiddleware"` in MIDDLEWARE, its settings in RATELIMITER."""

from ratelimiter_client.django.middleware import RateLimitMiddleware
from ratelimiter_client.django.throttling import RateLimitThrottle
from ratelimiter_client.django.views import exempt, limit

__all__ = ["RateLimitMiddleware", "RateLimitThrottle", "exempt", "limit"]
