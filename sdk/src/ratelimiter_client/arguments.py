"""Arguments are validated when an object is made: later an error would be a failure, which a fail mode hides."""

from __future__ import annotations

import inspect
import re
from typing import Any, Callable, Iterable, Literal

from ratelimiter_client.http.questions import MAX_AMOUNT, group_names

FailMode = Literal["open", "closed", "raise"]
FAIL_MODES = ("open", "closed", "raise")
RATE = re.compile(r"\s*[0-9]+\s*(/|per)\s*[0-9]*\s*(sec|min|hour|day|month|year)", re.IGNORECASE)


def refuse_unless(fits: bool, name: str, given: object, allowed: str, error: type[Exception] = TypeError) -> None:
    """Raise `error`, with the allowed values, unless `fits`."""
    if not fits:
        raise error(f"{name} is {given!r}, allowed is {allowed}")


def text(name: str, given: Any) -> str:
    """A text that is not empty. Raises TypeError or ValueError."""
    refuse_unless(isinstance(given, str), name, given, "text")
    refuse_unless(given != "", name, given, "text that is not empty", ValueError)
    return str(given)


def each(name: str, given: Any, allowed: str) -> tuple[Any, ...]:
    """The items of an iterable. Raises TypeError for anything else."""
    try:
        return tuple(given)
    except TypeError:
        raise TypeError(f"{name} is {given!r}, allowed is {allowed}") from None


def limit_name(given: Any) -> str:
    """A limit's name. Refuses a rate or a missing name, which code that comes from flask-limiter passes here."""
    refuse_unless(isinstance(given, str), "limit_key", given, "a limit's name as text, as in limit('login')")
    is_name = not RATE.match(given)
    refuse_unless(is_name, "limit_key", given, "a limit's name: rates are the service's rules", ValueError)
    return str(given)


def who(given: Any, name: str = "identify") -> Any:
    """A valid `identify`: None, text, or a function of the environ or of nothing."""
    if callable(given):
        return of_environ(given, name)
    refuse_unless(given is None or isinstance(given, str), name, given, "text, or a function")
    return given


def what(given: Any) -> Any:
    """A valid `limit_key`: a limit's name, a function of the environ, or a lambda without arguments.

    Any other function without arguments is taken for a view, whose decorator lacks its brackets, and refused.
    """
    if not callable(given):
        return limit_name(given)
    allowed = "a limit's name as text, as in limit('login'), a function of the environ, or a lambda"
    is_view = not accepts(given, None) and getattr(given, "__name__", "<lambda>") != "<lambda>"
    refuse_unless(not is_view, "limit_key", given, allowed)
    return of_environ(given, "limit_key", allowed)


def pairs(given: Iterable[Any]) -> tuple[Any, ...]:
    """Pairs of `identify` and `limit_key`; at least one."""
    found = each("limits", given, "a list of (identify, limit_key)")
    are_pairs = found and all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in found)
    refuse_unless(bool(are_pairs), "limits", given, "a list of (identify, limit_key), not empty", ValueError)
    return tuple((who(identify), what(limit_key)) for identify, limit_key in found)


def number(given: Any) -> Any:
    """A valid fixed cost."""
    is_number = isinstance(given, int) and not isinstance(given, bool)
    refuse_unless(is_number, "cost", given, "an integer or a function")
    refuse_unless(0 <= given <= MAX_AMOUNT, "cost", given, f"0 to {MAX_AMOUNT}", ValueError)
    return given


def units(given: Any) -> Any:
    """A valid cost: a number, or a function of the environ or of nothing."""
    return of_environ(given, "cost") if callable(given) else number(given)


def groups(given: Any) -> Any:
    """Valid groups: None, names, or a function of the environ or of nothing."""
    if callable(given):
        return of_environ(given, "groups")
    return None if given is None else group_names(given)


def of_environ(given: Any, name: str, allowed: str = "") -> Callable[..., Any]:
    """A function of the environ. A function of nothing, which reads its framework's request itself, is wrapped."""
    allowed = allowed or "a function of the environ, or of nothing"
    is_async = inspect.iscoroutinefunction(given) or inspect.isasyncgenfunction(given)
    refuse_unless(callable(given) and not is_async, name, given, f"{allowed}, not async")
    takes = accepts(given, None)
    if takes:
        return given  # type: ignore[no-any-return]
    refuse_unless(accepts(given), name, given, allowed)
    return lambda _environ: given()


def a_function(name: str, given: Any, allowed: str) -> None:
    """Raises TypeError for anything else than a function, also for a class."""
    refuse_unless(callable(given) and not inspect.isclass(given), name, given, allowed)


def function(name: str, given: Any, allowed: str, *arguments: Any) -> Any:
    """None, or what can be called with these. Raises TypeError, of an async one too: nobody would await it."""
    fits = given is None or (accepts(given, *arguments) and not inspect.iscoroutinefunction(given))
    refuse_unless(fits, name, given, f"{allowed}, not async")
    return given


def accepts(function: Callable[..., Any], *arguments: Any, **named: Any) -> bool:
    """Whether the function accepts these arguments. True for a builtin without a signature."""
    try:
        inspect.signature(function).bind(*arguments, **named)
    except TypeError:
        return False
    except ValueError:
        pass
    return True


def methods(given: Any) -> frozenset[str] | None:
    """HTTP methods, None: all. HEAD goes with GET, whose view answers it."""
    if given is None:
        return None
    names = [given] if isinstance(given, str) else each("methods", given, "names of HTTP methods")
    are_names = bool(names) and all(isinstance(name, str) and name.isalpha() for name in names)
    refuse_unless(are_names, "methods", given, 'names of HTTP methods, as in ["POST"]')
    found = {name.upper() for name in names}
    return frozenset(found | {"HEAD"} if "GET" in found else found)
