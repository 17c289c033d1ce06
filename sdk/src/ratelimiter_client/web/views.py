"""Limits of views, for every framework: decorators leave them on the function."""

from __future__ import annotations

import functools
import inspect
from typing import Any, Iterable

from ratelimiter_client.arguments import a_function

LIMITS, EXEMPT = "_ratelimiter_limits", "_ratelimiter_exempt"


def own(view: Any, method: str) -> list[Any]:
    """The limits of a view for an HTTP method; for a class also those of its functions for the method."""
    functions = [view]
    view_class = getattr(view, "view_class", None)
    if view_class is not None:
        name = "get" if method == "HEAD" and not hasattr(view_class, "head") else method.lower()
        names = ("dispatch", "dispatch_request", name)
        functions += [getattr(view_class, known, None) for known in names]
    return [limit for function in functions for limit in getattr(function, LIMITS, ()) if limit.is_for(method)]


def override(limits: Iterable[Any]) -> bool:
    """Whether any of the limits replaces outer ones."""
    return any(limit.override_defaults for limit in limits)


def exempted(view: Any) -> Any:
    """A view like it that is exempt; the function itself may be another view too. Raises TypeError."""
    allowed = "a view; of a class the one that as_view makes"
    a_function("what is exempt", view, allowed)

    @functools.wraps(view)
    def call(*args: Any, **kwargs: Any) -> Any:
        return view(*args, **kwargs)

    @functools.wraps(view)
    async def async_call(*args: Any, **kwargs: Any) -> Any:
        return await view(*args, **kwargs)

    found: Any = async_call if inspect.iscoroutinefunction(view) else call
    setattr(found, EXEMPT, True)
    return found


def is_exempt(view: Any) -> bool:
    view_class = getattr(view, "view_class", None)
    return bool(getattr(view, EXEMPT, False) or getattr(view_class, EXEMPT, False))
