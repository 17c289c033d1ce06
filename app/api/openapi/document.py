"""The OpenAPI document: flask-smorest derives it from views and schemas, and this module completes it for code
generators.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from apispec import APISpec
from werkzeug.routing import Rule

from app.api.auth import SECURITY_SCHEMES
from app.api.check.schemas import DECISION_REASONS
from app.api.openapi import headers as openapi_headers
from app.api.openapi.examples import DECISION, REQUESTS
from app.api.problem_kinds import ABOUT_BLANK, KINDS, type_of
from app.rules.rule import ACTIONS, ALGORITHMS, FAIL_MODES

Json = dict[str, Any]

METHODS = {"get", "put", "post", "delete", "patch"}
REF = "#/components/schemas/"
DESCRIPTION = """May this client do this now? `POST /v1/check` answers; rules say how much is allowed.

Checks need a key where `CHECK_AUTH=required`; rules always do. `make run` prints where it keeps the first key, and
`flask --app wsgi keys create` makes more. Send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`.

Decisions, leases and counters give moments in Unix seconds, everything else in ISO 8601 with an offset. Names that end
in `_ms` are milliseconds, `window` and `Retry-After` are seconds.

Clients must accept members, reasons and types of problems that they do not know. Types: [docs/problems](docs/problems).
"""
# Enums that several schemas share, under one name.
NAMED_ENUMS = {"Algorithm": ALGORITHMS, "Action": ACTIONS, "FailMode": FAIL_MODES}
TAGS = {
    "admin": "rules",
    "actions": "rules",
    "transfer": "files",
    "tenants": "tenants and keys",
    "api_keys": "tenants and keys",
    "docs": "documentation",
}
TAGS |= {"health": "operations", "limited": "counters"}


def finished(spec: APISpec, routes: Iterable[Rule]) -> Json:
    """The document. `routes` give each operation the name of its view."""
    document: Json = spec.to_dict()
    document["info"]["description"] = DESCRIPTION
    document["servers"] = [{"url": ".", "description": "where this document comes from, below any prefix"}]
    document["components"]["securitySchemes"] = SECURITY_SCHEMES
    schemas = document["components"]["schemas"]
    _finish_schemas(schemas)
    _name_operations(document, routes)
    _rename_tags(document)
    openapi_headers.declare(document)
    _open(schemas, _answered(document))
    return document


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Each operation, after its method and path."""
    for path, item in document["paths"].items():
        for method in sorted(item.keys() & METHODS):
            yield method, path, item[method]


def _finish_schemas(schemas: Json) -> None:
    schemas |= {name: {"type": "string", "enum": list(values)} for name, values in NAMED_ENUMS.items()}
    # Also an enum: clients of openapi-python-client refuse all alternatives of a mere const.
    schemas["DefaultRule"] = {"type": "string", "const": "default", "enum": ["default"]}
    schemas["KnownReason"] = {"type": "string", "enum": list(DECISION_REASONS)}
    types = {type_of(kind): meaning for kind, meaning in KINDS.items()}
    told = "\n".join(f"- `{name}`: {meaning}" for name, meaning in types.items())
    schemas["KnownProblem"] = {
        "type": "string",
        "enum": [ABOUT_BLANK, *types],
        "description": f"`{ABOUT_BLANK}`: the status says it all.\n{told}",
    }
    schemas["Undecided"] = {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"$ref": f"{REF}Problem"}},
        "description": "In a batch: this check could not be decided.",
    }
    schemas["BatchResult"]["properties"]["results"]["items"] = {
        "oneOf": [{"$ref": f"{REF}BatchDecision"}, {"$ref": f"{REF}Undecided"}]
    }
    schemas["PaginationMetadata"]["required"] = ["total", "total_pages", "first_page", "last_page", "page"]
    for name in ("Decision", "BatchDecision", "Denial", "Grant"):
        schemas[name]["properties"]["reason"] = _open_to_more("KnownReason")
    for name in ("Problem", "Denial"):
        schemas[name]["properties"]["type"] = _open_to_more("KnownProblem")
    for schema in schemas.values():
        for name, node in schema.get("properties", {}).items():
            schema["properties"][name] = _optional(_named(node))


def _open_to_more(known: str) -> Json:
    """Generators turn this into a type that names the known values and takes any other text."""
    return {"anyOf": [{"$ref": REF + known}, {"type": "string"}]}


def _named(node: Json) -> Json:
    """A shared enum by reference: otherwise generators make a type for each place, and another for each null in it."""
    values = set(node.get("enum", ()))
    for name, known in NAMED_ENUMS.items():
        if values - {None} == set(known):
            rest = {key: value for key, value in node.items() if key not in ("enum", "type")}
            reference = {"$ref": REF + name}
            return rest | ({"anyOf": [reference, {"type": "null"}]} if None in values else reference)
    return node


def _optional(node: Json) -> Json:
    """Move a default into the description: some generators conclude from a formal one that the member is always
    present.
    """
    rest = {key: value for key, value in node.items() if key != "default"}
    if node.get("default") is None:
        return rest
    told = f"default: {json.dumps(node['default'])}"
    return rest | {"description": f"{rest['description']}; {told}" if "description" in rest else told}


def _name_operations(document: Json, routes: Iterable[Rule]) -> None:
    """Name operations as their views, add request examples, and remove backquotes from summaries, which no viewer
    renders.
    """
    names = {
        (method.lower(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)): _camel_case(rule.endpoint.rpartition(".")[2])
        for rule in routes
        for method in rule.methods or ()
    }
    for method, path, operation in operations(document):
        name = operation["operationId"] = names[method, path]
        operation["summary"] = operation["summary"].replace("`", "")
        for media in operation.get("requestBody", {}).get("content", {}).values():
            if name in REQUESTS:
                media["example"] = REQUESTS[name]
        if name == "check":
            operation["responses"]["200"]["content"]["application/json"]["example"] = DECISION


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def _rename_tags(document: Json) -> None:
    found = {TAGS.get(tag["name"], tag["name"]): tag for tag in reversed(document["tags"])}
    document["tags"] = [tag | {"name": name} for name, tag in reversed(found.items())]
    for _, _, operation in operations(document):
        operation["tags"] = [TAGS.get(tag, tag) for tag in operation["tags"]]


def _answered(document: Json) -> set[str]:
    """The names of the schemas that responses use."""
    components, found = document["components"], set[str]()
    look = [components["responses"], components["headers"], *(each["responses"] for _, _, each in operations(document))]
    while look:
        node = look.pop()
        if isinstance(node, Mapping):
            look += node.values()
        elif isinstance(node, list):
            look += node
        elif isinstance(node, str) and node.startswith(REF) and (name := node.removeprefix(REF)) not in found:
            found.add(name)
            look.append(components["schemas"][name])
    return found


def _open(schemas: Json, answered: set[str]) -> None:
    """Later releases add members to answers: a client that refused unknown members would break."""
    for name in answered:
        if schemas[name].get("additionalProperties") is False:
            del schemas[name]["additionalProperties"]
