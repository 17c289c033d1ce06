"""Limits of views and blueprints, and the selection of those that hold for a request."""

from __future__ import annotations

import functools
import inspect
from contextlib import suppress
from typing import Any, Callable, Iterable, NamedTuple, TypeVar, Union

from flask import Blueprint, Flask, request

from ratelimiter_client import arguments
from ratelimiter_client.decision import Decision
from ratelimiter_client.http.breaker import log
from ratelimiter_client.web.gate import Limit
from ratelimiter_client.web.views import LIMITS, is_exempt, override, own

F = TypeVar("F", bound=Union[Callable[..., Any], Blueprint])
LIMITED = "_ratelimiter_limited"  # of a function that a limit was put around
OnBreach = Callable[[Decision], Any]
Message = Union[str, Callable[[], str]]


class Breach(NamedTuple):
    """The treatment of a denial."""

    error_message: Message | None = None
    on_breach: OnBreach | None = None

    @classmethod
    def made(cls, error_message: Any, on_breach: Any) -> Breach:
        """Raises TypeError."""
        if not isinstance(error_message, str):
            arguments.function("error_message", error_message, "text, or a function of nothing")
        return cls(error_message, arguments.function("on_breach", on_breach, "a function of the decision", None))


class ViewLimit:
    """A decorator of views, a limit of a blueprint, and a context within a view. One object can be all of these."""

    def __init__(
        self,
        enforce: Callable[[ViewLimit], None],
        limit: Limit,
        *,
        of_blueprint: Callable[[Blueprint, ViewLimit], None],
        methods: Iterable[str] | None,
        exempt_when: Callable[..., Any] | None,
        override_defaults: bool,
        breach: Breach,
    ) -> None:
        self.limit = limit
        self.breach = breach
        self.override_defaults = override_defaults
        self._enforce, self._of_blueprint = enforce, of_blueprint
        self._methods = arguments.methods(methods)
        self._exempt_when = None if exempt_when is None else arguments.of_environ(exempt_when, "exempt_when")

    def __call__(self, view: F) -> F:
        if isinstance(view, Blueprint):
            self._of_blueprint(view, self)
            return view  # pyright: ignore[reportReturnType]
        allowed = "a view or a blueprint: as in @limits.limit('login')"
        arguments.a_function("what is limited", view, allowed)

        @functools.wraps(view)
        def limited(*args: Any, **kwargs: Any) -> Any:
            self._enforce(self)
            return view(*args, **kwargs)

        @functools.wraps(view)
        async def async_limited(*args: Any, **kwargs: Any) -> Any:
            self._enforce(self)
            return await view(*args, **kwargs)

        found: Any = async_limited if inspect.iscoroutinefunction(view) else limited
        setattr(found, LIMITS, (self, *getattr(view, LIMITS, ())))
        with suppress(AttributeError):  # a method of an object carries nothing
            setattr(view, LIMITED, True)
        return found  # type: ignore[no-any-return]

    def __enter__(self) -> ViewLimit:
        self._enforce(self)
        return self

    def __exit__(self, *_: object) -> None:
        """Charged units stay charged."""

    def is_for(self, method: str) -> bool:
        return self._methods is None or method in self._methods

    def holds(self) -> bool:
        """Whether the limit holds for the current request."""
        exempt = self._exempt_when is not None and self._exempt_when(request.environ)
        return self.is_for(request.method) and not exempt


class Outer:
    """Limits outside a view: those of its blueprints, and whether the application's hold."""

    def __init__(self) -> None:
        self.blueprints: dict[Any, list[ViewLimit]] = {}
        self.exempt: set[Any] = set()
        self._told: set[str] = set()

    def of(self, app: Flask, endpoint: str, blueprints: list[str], method: str) -> tuple[bool, list[ViewLimit]]:
        """Whether the application's own limits hold, and the limits of blueprints, outermost first.

        An inner limit replaces outer ones, unless it does not override.
        """
        view = app.view_functions[endpoint]
        if hasattr(view, LIMITED) and not hasattr(view, LIMITS):
            self._tell(endpoint)
        found: list[ViewLimit] = []
        if is_exempt(view) or override(own(view, method)):
            return False, found
        for blueprint in filter(None, map(app.blueprints.get, blueprints)):
            if blueprint in self.exempt:
                return False, found
            applying = [limit for limit in self.blueprints.get(blueprint) or () if limit.is_for(method)]
            found = applying + found
            if override(applying):
                return False, found
        return True, found

    def _tell(self, endpoint: str) -> None:
        """Once, that a limit holds for the function it made, while the route has the one below it."""
        if endpoint not in self._told:
            self._told.add(endpoint)
            log.warning("the limit of the view %r does not hold: put it below the route's decorator", endpoint)
