"""Lists in pages: the same members for each, and links that hold below a prefix."""

from __future__ import annotations

import json
import re
from urllib.parse import urljoin

import pytest

from tests.support.node import Node

RULES = "/v1/admin/rules"
ALWAYS = {"total", "total_pages", "first_page", "last_page", "page"}


@pytest.mark.parametrize(
    ("query", "beside"),
    [
        ({"client_id": "nobody has this one"}, set()),
        ({}, set()),
        ({"page_size": 1}, {"next_page"}),
        ({"page_size": 1, "page": 2}, {"next_page", "previous_page"}),
        ({"page_size": 1000, "page": 9}, {"previous_page"}),
        ({"client_id": "nobody has this one", "page": 3}, {"previous_page"}),
    ],
)
def test_every_list_says_the_same_of_its_pages(node: Node, query: dict[str, object], beside: set[str]) -> None:
    answer = node.request("GET", RULES, params=query)
    pages = json.loads(answer.headers["X-Pagination"])
    assert pages.keys() == ALWAYS | beside
    assert (pages["first_page"], pages["page"]) == (1, query.get("page", 1))
    assert pages["last_page"] == max(1, pages["total_pages"])
    assert pages["total_pages"] == -(-pages["total"] // int(str(query.get("page_size", 1000))))


def test_links_lead_to_the_other_pages_with_the_same_filters(node: Node) -> None:
    answer = node.request("GET", RULES, params={"page_size": 1, "page": 2, "shadow": "false"})
    links = {name: target for target, name in re.findall(r'<([^>]+)>; rel="(\w+)"', answer.headers["Link"])}
    assert links.keys() == {"first", "prev", "next", "last"}
    first = node.request("GET", RULES, params={"page_size": 1, "page": 1, "shadow": "false"})
    assert node.request("GET", urljoin(RULES, links["first"])).json() == first.json()
    assert urljoin("http://proxy/below/v1/admin/rules?page=2", links["next"]) == (
        "http://proxy/below/v1/admin/rules?page_size=1&page=3&shadow=false"
    )
