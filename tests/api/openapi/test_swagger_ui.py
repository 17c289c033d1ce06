"""GET /docs: a page that needs nothing but this service."""

from __future__ import annotations

import re

from tests.api.raw_http import problem_of
from tests.support.node import Node


def test_the_page_and_all_it_loads_come_from_here(node: Node) -> None:
    page = node.request("GET", "/docs", key=None)
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "http:" not in page.text
    assert "https:" not in page.text
    loaded = re.findall(r'(?:href|src)="([^"]+)"', page.text)
    assert len(loaded) == 2
    for name in loaded:
        answer = node.request("GET", f"/{name}", key=None)
        assert answer.status_code == 200
        assert len(answer.content) > 100_000
        assert answer.headers["Content-Type"].split(";")[0] in ("text/css", "text/javascript")
    assert re.search(r'url: "openapi.json"', page.text)
    policy = page.headers["Content-Security-Policy"].split("; ")
    assert {"frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} <= set(policy)
    sources = re.findall(r"-src ([^;]+)", page.headers["Content-Security-Policy"])
    assert not {word for source in sources for word in source.split()} - {
        "'self'",
        "'none'",
        "'unsafe-inline'",
        "data:",
    }


def test_nothing_else_lies_there(node: Node) -> None:
    for name in ("x", "..%2Fflask_swagger_ui.py", "VERSION", ".."):
        problem_of(node.request("GET", f"/docs/{name}", key=None), 404)
