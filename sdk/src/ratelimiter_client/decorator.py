"""The decorator: every call of a function is a check."""

from __future__ import annotations

import functools
from typing import Any, Callable, TypeVar, Union

from ratelimiter_client.arguments import limit_name
from ratelimiter_client.decision import Decision
from ratelimiter_client.errors import RateLimited

F = TypeVar("F", bound=Callable[..., Any])
ClientId = Union[str, Callable[..., Union[str, int]]]


def limited(
    check: Callable[[Any, str, int], Decision],
    limit_key: str,
    *,
    identify: ClientId,
    cost: int,
    on_denied: Callable[[Decision], Any] | None,
) -> Callable[[F], F]:
    """See RateLimiter.limit."""
    limit_key = limit_name(limit_key)

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            client_id = identify(*args, **kwargs) if callable(identify) else identify
            decision = check(client_id, limit_key, cost)
            if decision.allowed:
                return function(*args, **kwargs)
            if on_denied is None:
                raise RateLimited(decision)
            return on_denied(decision)

        return wrapper  # type: ignore[return-value]

    return decorate
