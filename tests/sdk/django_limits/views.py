"""A view, and the statuses of requests to it."""

from __future__ import annotations

from typing import Any

import django.http
import django.test


def hello(request: Any) -> django.http.HttpResponse:
    decision = request.ratelimiter_decision
    return django.http.HttpResponse("none" if decision is None else str(decision.remaining))


def statuses(path: str, number: int = 1, **options: Any) -> list[int]:
    browser = django.test.Client()
    return [browser.get(path, **options).status_code for _ in range(number)]
