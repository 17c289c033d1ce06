"""Requests that are never limited."""

from __future__ import annotations

from typing import Any, Callable, Iterable, Union

from ratelimiter_client.arguments import each, of_environ, refuse_unless
from ratelimiter_client.identify import Environ

Exempt = Union[str, Callable[[Environ], Any], Iterable[Union[str, Callable[[Environ], Any]]]]


def preflight(environ: Environ) -> bool:
    """Whether the request is a CORS preflight. Use it only for an application that does no work for OPTIONS."""
    return environ.get("REQUEST_METHOD") == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ


def exempting(given: Exempt) -> Callable[[Environ], bool]:
    """The test for paths (`/health`, `/static/*`) and functions of the environ, any of which exempts."""
    items = [given] if isinstance(given, str) or callable(given) else each("exempt", given, "paths and functions")
    functions = [of_environ(item, "exempt") for item in items if callable(item)]
    paths = [item for item in items if not callable(item)]
    for path in paths:
        fits = isinstance(path, str) and path[:1] in ("/", "*")
        refuse_unless(fits, "exempt", path, "a path (/health, /static/*), or a function", _error(path))
    exact = frozenset(path for path in paths if not path.endswith("*"))
    beginnings = tuple(path[:-1] for path in paths if path.endswith("*"))

    def is_exempt(environ: Environ) -> bool:
        path = environ.get("PATH_INFO", "")
        # /static/../login may be /login to the application
        by_path = path in exact or (path.startswith(beginnings) and "/.." not in path)
        return by_path or any(function(environ) for function in functions)

    return is_exempt


def _error(path: object) -> type[Exception]:
    return ValueError if isinstance(path, str) else TypeError
