"""Limits of Django views."""

from __future__ import annotations

import functools
from typing import Any, Callable, Iterable, TypeVar

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse

from ratelimiter_client import arguments
from ratelimiter_client.decision import Decision
from ratelimiter_client.django.deciding import decide, denied, with_headers
from ratelimiter_client.errors import RateLimited
from ratelimiter_client.unnamed import DEFAULT_KEY
from ratelimiter_client.web.charges import Charges
from ratelimiter_client.web.gate import Cost, Limit, Many, What, Who
from ratelimiter_client.web.views import LIMITS, exempted

F = TypeVar("F", bound=Callable[..., Any])
OnDenied = Callable[[HttpRequest, Decision], "HttpResponse | None"]
RAISED: tuple[tuple[Any, int], ...] = (
    (Http404, 404),
    (PermissionDenied, 403),
    ((BadRequest, SuspiciousOperation), 400),
    (RateLimited, 429),
)
MET = "ratelimiter.met"  # in META: limits that were asked


class ViewLimit:
    """See `limit`."""

    def __init__(
        self, limit: Limit, *, methods: Any, exempt_when: Any, override_defaults: bool, on_denied: OnDenied | None
    ) -> None:
        self.limit = limit
        self.override_defaults = override_defaults
        allowed = "a function of the request and the decision"
        self._on_denied = arguments.function("on_denied", on_denied, allowed, None, None)
        self._methods = arguments.methods(methods)
        self._exempt_when = None if exempt_when is None else arguments.of_environ(exempt_when, "exempt_when")

    def __call__(self, view: F) -> F:
        allowed = "a view, or a method of one, as in @limit('login'); of a class by method_decorator"
        arguments.a_function("what is limited", view, allowed)

        @functools.wraps(view)
        def limited(*args: Any, **kwargs: Any) -> Any:
            request = _request(args)
            answer = self.enforce(request)
            if answer is not None:
                return answer
            try:
                return self.settled(request, view(*args, **kwargs))
            except Exception as error:
                self.settled(request, _answer_to(error))
                raise

        @functools.wraps(view)
        async def async_limited(*args: Any, **kwargs: Any) -> Any:
            request = _request(args)
            answer = await sync_to_async(self.enforce)(request)
            if answer is not None:
                return answer
            try:
                response = await view(*args, **kwargs)
            except Exception as error:
                await sync_to_async(self.settled)(request, _answer_to(error))
                raise
            if Charges.of(request.META).holds:  # a trip
                return await sync_to_async(self.settled)(request, response)
            return with_headers(request, response)

        found: Any = async_limited if iscoroutinefunction(view) else limited
        setattr(found, LIMITS, (self, *getattr(view, LIMITS, ())))
        return found  # type: ignore[no-any-return]

    def is_for(self, method: str) -> bool:
        return self._methods is None or method in self._methods

    def enforce(self, request: HttpRequest) -> HttpResponse | None:
        """The answer to a denied request; None: the request is not denied."""
        met = request.META.setdefault(MET, [])
        if self in met:  # a function that is called again is charged again
            Charges.of(request.META).forget()
        met.append(self)
        environ = {**request.META, "django.request": request}
        exempt = self._exempt_when is not None and self._exempt_when(environ)
        if exempt or not self.is_for(request.method or "GET"):
            return None
        decision = decide(request, [self.limit])
        return None if decision is None or decision.allowed else denied(request, decision, self._on_denied)

    def settled(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """The response with the headers of the decision, after the held units were charged or returned."""
        Charges.of(request.META).settle(response)
        return with_headers(request, response)


def _answer_to(error: Exception) -> HttpResponse:
    """The answer that Django makes of an exception of a view, as far as `deduct_when` may ask: its status."""
    return HttpResponse(status=next((status for kind, status in RAISED if isinstance(error, kind)), 500))


def _request(args: tuple[Any, ...]) -> HttpRequest:
    """The first argument of a view, the second of a method."""
    return args[0] if hasattr(args[0], "META") else args[1]


def limit(
    limit_key: What = DEFAULT_KEY,
    identify: Who = None,
    *,
    cost: Cost | None = None,
    groups: Many = None,
    methods: Iterable[str] | None = None,
    exempt_when: Callable[..., Any] | None = None,
    deduct_when: Callable[[HttpResponse], Any] | None = None,
    override_defaults: bool = True,
    on_denied: OnDenied | None = None,
) -> ViewLimit:
    """A decorator of views and methods of views, async ones too.

    For whole classes use `method_decorator(limit("login"), name="dispatch")`.

    The limit replaces the middleware's, unless `override_defaults=False`: then both hold. It works without the
    middleware too. `identify`, `cost`, `groups`: by default those of the settings. `methods`: the HTTP methods to
    limit. `exempt_when`: requests for which it returns true are not limited.

    `deduct_when`: a request is charged only if it returns true for the answer; until then the units are held.
    `on_denied(request, decision)` answers, unless it returns None. Raises TypeError or ValueError.
    """
    arguments.function("deduct_when", deduct_when, "a function of the response", None)
    units = None if cost is None else arguments.units(cost)
    return ViewLimit(
        Limit(arguments.who(identify), arguments.what(limit_key), units, deduct_when, arguments.groups(groups)),
        methods=methods,
        exempt_when=exempt_when,
        override_defaults=override_defaults,
        on_denied=on_denied,
    )


def exempt(view: F) -> F:
    """A decorator of views: the middleware's limits do not hold for the view, its own do."""
    return exempted(view)  # type: ignore[no-any-return]
