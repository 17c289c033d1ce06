"""The smallest WSGI application: the cost of the stock worker itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

BODY = b'{"allowed":true}'
HEADERS = [("Content-Type", "application/json"), ("Content-Length", str(len(BODY)))]


def app(_: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], Any]) -> Iterable[bytes]:
    start_response("200 OK", HEADERS)
    return [BODY]
