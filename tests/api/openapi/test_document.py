"""GET /openapi.json: a valid description of this service, and a complete one."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from app.api.openapi.examples import REQUESTS
from app.api.ops import routes as ops_routes
from tests.support.node import Node

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
OPERATION = {
    "tags",
    "summary",
    "description",
    "externalDocs",
    "operationId",
    "parameters",
    "requestBody",
    "responses",
    "callbacks",
    "deprecated",
    "security",
    "servers",
}
TYPES = {"string", "number", "integer", "boolean", "array", "object", "null"}
Json = dict[str, Any]


@pytest.fixture(scope="module")
def page(node: Node) -> Json:
    answer = node.request("GET", "/openapi.json", key=None)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    document: Json = answer.json()
    return document


def _operations(page: Json) -> Iterator[tuple[str, str, Json]]:
    for path, item in page["paths"].items():
        for method in item.keys() & METHODS:
            yield method, path, item[method]


def _nodes(value: Any) -> Iterator[Json]:
    """Every object in the document."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    for child in value if isinstance(value, list) else ():
        yield from _nodes(child)


def _resolved(page: Json, reference: str) -> Any:
    found: Any = page
    for step in reference.removeprefix("#/").split("/"):
        found = found[step.replace("~1", "/").replace("~0", "~")]
    return found


def test_it_is_made_once(app: Flask) -> None:
    with app.test_client() as client:
        first = client.get("/openapi.json")
        made = ops_routes._document.cache_info()
        second = client.get("/openapi.json")
    assert second.data == first.data
    assert ops_routes._document.cache_info() == made._replace(hits=made.hits + 1)


def test_it_is_openapi_3_1_with_a_title_and_a_version(page: Json) -> None:
    assert re.fullmatch(r"3\.1\.\d+", page["openapi"])
    assert page["info"]["title"]
    assert page["info"]["version"]
    assert page.keys() <= {"openapi", "info", "servers", "paths", "components", "security", "tags", "externalDocs"}


def test_every_route_is_described(page: Json, app: Flask) -> None:
    routes = {
        (method.lower(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(method, path) for method, path, _ in _operations(page)} == routes


def test_every_operation_is_well_formed(page: Json) -> None:
    for method, path, operation in _operations(page):
        assert operation.keys() <= OPERATION, (method, path)
        assert operation["summary"]
        assert any(status.startswith("2") for status in operation["responses"]), (method, path)
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[1-5](\d\d|XX)|default", status)
            assert "$ref" in response or response["description"]
        body = operation.get("requestBody")
        assert (body is not None) == (method in ("post", "put", "patch")), (method, path)
        if body:
            assert body["content"]["application/json"]["schema"]


def test_every_parameter_of_a_path_is_declared(page: Json) -> None:
    for method, path, operation in _operations(page):
        parameters = page["paths"][path].get("parameters", []) + operation.get("parameters", [])
        for parameter in parameters:
            assert parameter["in"] in ("path", "query", "header", "cookie")
            assert parameter["schema"]
            assert parameter["in"] != "path" or parameter["required"] is True
        declared = [parameter["name"] for parameter in parameters if parameter["in"] == "path"]
        assert sorted(declared) == sorted(re.findall(r"\{(\w+)\}", path)), (method, path)


def test_every_reference_leads_somewhere_and_every_component_is_used(page: Json) -> None:
    references = {node["$ref"] for node in _nodes(page) if isinstance(node.get("$ref"), str)}
    assert references
    for reference in references:
        assert _resolved(page, reference)


def test_every_schema_speaks_json_schema(page: Json) -> None:
    for node in _nodes(page["components"]["schemas"]):
        types = node.get("type")
        if isinstance(types, str | list):
            assert set([types] if isinstance(types, str) else types) <= TYPES
        assert "nullable" not in node  # that was OpenAPI 3.0
        if isinstance(node.get("pattern"), str):
            assert not re.search(r"\\[AZ]", node["pattern"])  # Python's, not ECMA's


def test_errors_are_described_as_problems(page: Json) -> None:
    for method, path, operation in _operations(page):
        for status, response in operation["responses"].items():
            if not status.startswith("2"):
                found = _resolved(page, response["$ref"]) if "$ref" in response else response
                schema = found["content"]["application/problem+json"]["schema"]
                kind = "Denial" if status == "429" else "Problem"  # a denial is a problem and a decision
                assert schema == {"$ref": f"#/components/schemas/{kind}"}, (method, path, status)
    described = page["paths"]["/v1/check"]["post"]["responses"].keys()
    assert described >= {"200", "400", "401", "403", "408", "411", "413", "415", "422", "503"}


def test_it_says_which_routes_need_a_key(page: Json) -> None:
    schemes = page["components"]["securitySchemes"]
    assert {scheme["type"] for scheme in schemes.values()} == {"http", "apiKey"}
    for _, path, operation in _operations(page):
        alternatives = operation.get("security", [])
        assert {name for alternative in alternatives for name in alternative} <= schemes.keys()
        if path.startswith(("/v1/check", "/v1/authorize", "/v1/leases")):
            assert {} in alternatives
        else:
            assert bool(alternatives) == (path == "/rules" or path.startswith("/v1/admin")), path
            assert {} not in alternatives


def test_every_operation_has_a_name_of_its_own(page: Json) -> None:
    names = [operation["operationId"] for _, _, operation in _operations(page)]
    assert len(set(names)) == len(names)
    assert {"check", "checkBatch", "createLease", "returnLease", "listRules", "putRule", "importRules"} <= set(names)
    assert all(re.fullmatch(r"[a-z][A-Za-z]+", name) for name in names)


def test_no_schema_of_an_answer_is_closed_and_those_of_requests_are(page: Json) -> None:
    schemas = page["components"]["schemas"]
    used = {"requestBody": set[str](), "responses": set[str]()}
    for _, _, operation in _operations(page):
        for part, found in used.items():
            found |= _used(page, operation.get(part))
    assert not [name for name in used["responses"] if "additionalProperties" in schemas[name]]
    only_sent = used["requestBody"] - used["responses"]
    objects = [name for name in only_sent if schemas[name].get("type") == "object"]
    assert objects
    assert [name for name in objects if schemas[name].get("additionalProperties") is not False] == []


def _used(page: Json, part: Any) -> set[str]:
    found, look = set[str](), [part]
    while look:
        for node in _nodes(look.pop()):
            reference = node.get("$ref")
            if isinstance(reference, str) and reference not in found:
                found.add(reference)
                look.append(_resolved(page, reference))
    return {name.rpartition("/")[2] for name in found if "/schemas/" in name}


def test_no_member_has_a_formal_default_and_no_enum_has_a_null(page: Json) -> None:
    """Of the first generators make members that must be there, of the second types of their own."""
    for schema in page["components"]["schemas"].values():
        for name, node in schema.get("properties", {}).items():
            assert "default" not in node, name
            assert None not in node.get("enum", []), name


PYTHON_TYPES = {"boolean": bool, "integer": int, "string": str, "array": list}


def test_every_default_fits_its_own_schema_and_is_taken(page: Json, node: Node) -> None:
    """Generated clients send the defaults of parameters."""
    fits: dict[str, Callable[[Any, Any], bool]] = {
        "type": lambda value, kind: type(value) is PYTHON_TYPES[kind],
        "minimum": operator.ge,
        "maximum": operator.le,
        "minLength": lambda value, low: len(value) >= low,
        "maxLength": lambda value, high: len(value) <= high,
        "enum": lambda value, allowed: value in allowed,
        "minItems": lambda value, low: len(value) >= low,
        "maxItems": lambda value, high: len(value) <= high,
        "uniqueItems": lambda value, _: len(set(value)) == len(value),
        "items": lambda value, _: value == [],
    }
    with_defaults = [each for each in _nodes(page) if "default" in each and ("type" in each or "$ref" in each)]
    assert with_defaults
    for schema in with_defaults:
        for word, bound in schema.items():
            if word not in ("default", "description", "example"):
                assert fits[word](schema["default"], bound), schema
    for method, path, operation in _operations(page):
        parameters = operation.get("parameters", ())
        sent = {each["name"]: each["schema"]["default"] for each in parameters if "default" in each.get("schema", ())}
        needed = any(each.get("required") for each in parameters) or path == "/v1/admin/counters"  # one of three
        if method == "get" and sent and not needed:
            answer = node.request(
                "GET", path, params={name: json.dumps(value).strip('"') for name, value in sent.items()}
            )
            assert answer.status_code not in (400, 422), answer.text


def test_what_only_answers_say_has_a_type_in_requests_too(page: Json) -> None:
    schemas, found = page["components"]["schemas"], set[str]()
    for name, answered in (("Rule", "RuleAnswer"), ("RulePatch", "RuleAnswer"), ("Template", "StoredTemplate")):
        for member, node in schemas[name]["properties"].items():
            if node.get("readOnly"):
                found.add(member)
                assert node == schemas[answered]["properties"][member] | {"readOnly": True}, (name, member)
    assert found == {"id", "version", "created_at", "updated_at", "warnings", "builtin"}


def test_it_holds_below_any_prefix(page: Json) -> None:
    assert [server["url"] for server in page["servers"]] == ["."]
    for _, _, operation in _operations(page):
        assert "`" not in operation["summary"]  # which nobody renders


def test_every_example_is_taken(page: Json, own_node: Node) -> None:
    """In the order of their making: a click after another on a service that was just started."""
    names = {operation["operationId"]: (method, path) for method, path, operation in _operations(page)}
    assert REQUESTS.keys() <= names.keys()
    made: Json = {"name": "search-pro", "key_id": "", "lease_id": "", "rule_id": ""}
    for name, example in REQUESTS.items():
        method, path = names[name]
        assert page["paths"][path][method]["requestBody"]["content"]["application/json"]["example"] == example
        answer = own_node.request(method.upper(), path.format(**made), json=example)
        assert answer.ok, (name, answer.text)
        if name in ("putRule", "createLease", "createKey"):
            made |= {f"{key}_id": answer.json()[field] for key, field in OF_ANSWERS[name].items()}
    first, second = (own_node.request("POST", "/v1/check", json=REQUESTS["check"]).json() for _ in range(2))
    assert second["remaining"] < first["remaining"]


OF_ANSWERS = {"putRule": {"rule": "id"}, "createLease": {"lease": "lease_id"}, "createKey": {"key": "id"}}


def test_every_declared_header_is_sent_and_every_sent_one_declared(page: Json, node: Node, client: str) -> None:
    declared = page["components"]["headers"].keys() | {"X-Pagination"}
    rule = {"client_id": client, "rate": 1, "window": 60}
    asked = {
        "check": {"json": {"client_id": client}},
        "putRule": {"json": rule},
        "listRules": {"params": {"page_size": 1}},
        "listTenants": {},
        "health": {},
    }
    operations = {operation["operationId"]: (method, path) for method, path, operation in _operations(page)}
    for name, options in asked.items():
        method, path = operations[name]
        answer = node.request(method.upper(), path, **options)
        documented = page["paths"][path][method]["responses"][str(answer.status_code)]["headers"].keys()
        others = {"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "Retry-After"}
        assert answer.headers.keys() & declared == documented - others, name


def test_the_schemas_are_those_of_the_answers(page: Json, node: Node, client: str) -> None:
    schemas = page["components"]["schemas"]
    answers = {
        "Decision": node.check(client),
        "StoredRule": node.request("GET", "/v1/admin/rules").json()[0],
        "Problem": node.request("GET", "/rules", key=None).json(),
        "Health": node.request("GET", "/health", key=None).json(),
        "Breaker": node.request("GET", "/circuit-breaker-status", key=None).json(),
    }
    for name, answer in answers.items():
        assert set(schemas[name]["required"]) <= answer.keys() <= schemas[name]["properties"].keys(), name
    check = schemas["Check"]
    assert (check["required"], check["additionalProperties"]) == (["client_id"], False)
    assert check["properties"].keys() == {"client_id", "limit_key", "cost", "request_id", "groups"}
    query = {each["name"]: each["schema"] for each in page["paths"]["/v1/admin/counters"]["get"]["parameters"]}
    assert {check["properties"]["groups"]["uniqueItems"], query["groups"]["uniqueItems"]} == {True}
