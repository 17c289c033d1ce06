"""The headers of answers, declared in the OpenAPI document for the responses that have them."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

TEXT, COUNT = {"type": "string"}, {"type": "integer"}
HEADERS: dict[str, Json] = {
    "X-Correlation-ID": {"description": "the request's own where it is well-formed, else a new one", "schema": TEXT},
    "RateLimit-Policy": {
        "description": 'every limit of the rule (RATELIMIT_HEADERS=draft-10), such as `"2";q=20;w=60`',
        "schema": TEXT,
    },
    "RateLimit": {"description": 'what is left of the binding limit, such as `"2";r=19;t=3`', "schema": TEXT},
    "X-RateLimit-Limit": {"description": "with RATELIMIT_HEADERS=legacy instead", "schema": COUNT},
    "X-RateLimit-Remaining": {"description": "likewise", "schema": COUNT},
    "X-RateLimit-Reset": {"description": "likewise: Unix time in whole seconds, rounded up", "schema": COUNT},
    "Retry-After": {"description": "seconds, rounded up; of a denial, or where asking again helps", "schema": COUNT},
    "ETag": {"description": "the version of the rule, for If-Match", "schema": TEXT},
    "Location": {"description": "of the new rule", "schema": {"type": "string", "format": "uri-reference"}},
    "Link": {"description": "other pages of the list, relative to this one (RFC 8288)", "schema": TEXT},
    "WWW-Authenticate": {"description": "Bearer", "schema": TEXT},
}
OF_DECISIONS = (
    "RateLimit-Policy",
    "RateLimit",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "Retry-After",
)
OF_SCHEMAS = {"Decision": OF_DECISIONS, "Grant": OF_DECISIONS, "Denial": OF_DECISIONS, "RuleAnswer": ("ETag",)}


def declare(document: Json) -> None:
    components = document["components"]
    components["headers"] |= HEADERS
    components["headers"]["PAGINATION"] = {
        "description": "which page this is, and which others there are",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/PaginationMetadata"}}},
    }
    for response in components["responses"].values():
        _add(response, "X-Correlation-ID", "Retry-After")
    for item in document["paths"].values():
        for operation in item.values():
            for status, response in operation["responses"].items() if isinstance(operation, dict) else ():
                if "$ref" not in response:
                    _add(response, *_sent(status, response))


def _sent(status: str, response: Json) -> list[str]:
    names = ["X-Correlation-ID"]
    for media in response.get("content", {}).values():
        reference = media.get("schema", {}).get("$ref", "")
        names += OF_SCHEMAS.get(reference.rpartition("/")[2], ())
    if "X-Pagination" in response.get("headers", {}):
        names.append("Link")
    if "ETag" in names and status == "201":
        names.append("Location")
    return names + {"401": ["WWW-Authenticate"], "503": ["Retry-After"]}.get(status, [])


def _add(response: Json, *names: str) -> None:
    headers = response.setdefault("headers", {})
    headers |= {name: {"$ref": f"#/components/headers/{name}"} for name in names}
