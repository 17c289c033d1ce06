"""For Flask: `RateLimits(app)` limits every request, `@limits.limit("login")` a view."""

from ratelimiter_client.flask.errors import RateLimitExceeded, RateLimitUndecided
from ratelimiter_client.flask.extension import RateLimits

__all__ = ["RateLimitExceeded", "RateLimitUndecided", "RateLimits"]
