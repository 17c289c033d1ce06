"""The Django middleware."""

from __future__ import annotations

from typing import Any, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse

from ratelimiter_client.django.deciding import decide, denied, gate, note, with_headers
from ratelimiter_client.errors import RateLimited
from ratelimiter_client.web.views import is_exempt, override, own


class RateLimitMiddleware:
    """Limits every request that has a view; a view's own limits replace these.

    `settings.RATELIMITER` is a dict of the arguments of RateLimiter and Gate, in capitals: `{"URL": "http://…",
    "LIMIT_KEY": "web", "EXEMPT": ["/health"]}`. Functions among them get `request.META` with the request in it, as
    `"django.request"`.

    `ON_DENIED(request, decision)` answers denied requests; otherwise `handler429` of the root URLconf does. The
    decision is `request.ratelimiter_decision`.
    """

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        gate()  # wrong settings stop the start
        self._get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        note(request, None)
        if iscoroutinefunction(self):
            return self._answered(request)
        return with_headers(request, self._get_response(request))

    async def _answered(self, request: HttpRequest) -> HttpResponse:
        return with_headers(request, await self._get_response(request))

    def process_view(self, request: HttpRequest, view: Any, _args: Any, _kwargs: Any) -> HttpResponse | None:
        """Runs before the view, when its user is known. In an asynchronous application Django calls it in a thread."""
        if is_exempt(view) or override(own(view, request.method or "GET")):
            return None
        decision = decide(request)
        return None if decision is None or decision.allowed else denied(request, decision)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Answers a denial by a client's decorator like a denial of the request."""
        return denied(request, error.decision) if isinstance(error, RateLimited) else None
