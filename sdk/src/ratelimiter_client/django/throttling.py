"""For Django REST framework: `DEFAULT_THROTTLE_CLASSES = ["ratelimiter_client.django.RateLimitThrottle"]`."""

from __future__ import annotations

from typing import Any

from ratelimiter_client.decision import Decision
from ratelimiter_client.django.deciding import decide, options
from ratelimiter_client.unnamed import DEFAULT_KEY
from ratelimiter_client.web.gate import Limit


class RateLimitThrottle:
    """A throttle with the framework's interface. The limit key is the class's `scope`, the view's `throttle_scope`, or
    "global".

    The client is the one that IDENTIFY names. Without that setting it is the signed-in user, else the address.
    """

    scope: str | None = None

    def __init__(self) -> None:
        self._decision: Decision | None = None

    def allow_request(self, request: Any, view: Any) -> bool:
        limit_key = self.scope or getattr(view, "throttle_scope", None) or DEFAULT_KEY
        user = getattr(request, "user", None)
        known = "identify" not in options() and getattr(user, "is_authenticated", False)
        identify = (lambda _: getattr(user, "pk", None)) if known else None
        self._decision = decide(getattr(request, "_request", request), [Limit(identify, limit_key)])
        return self._decision is None or self._decision.allowed

    def wait(self) -> float | None:
        """Seconds to wait; None where waiting does not help."""
        wait_ms = None if self._decision is None else self._decision.retry_after_ms
        return None if wait_ms is None else wait_ms / 1000
