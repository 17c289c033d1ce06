"""All rules of a tenant as a file, out and in."""

from __future__ import annotations

import json

from flask import Response, current_app, g, request
from flask_smorest import Blueprint
from gevent.lock import BoundedSemaphore

from app.api.admin import changes, own_rules, refresh
from app.api.admin_schemas import ImportOptionsSchema, ImportSchema, MergeSchema
from app.api.auth import requires
from app.api.bodies import read_body
from app.api.problems import Problem
from app.api.rule_files import YAML, YAML_TYPES, InvalidRules, read_rules, write_rules
from app.api.rule_forms import shown_merge_lists
from app.api.rule_warnings import warnings_of_merge
from app.extensions import db
from app.rules.pace import Pace
from app.rules.repository import in_one_state
from app.rules.rule import Rule

blueprint = Blueprint("transfer", __name__, url_prefix="/v1/admin", description="Export and import")

# Read or written by a worker at a time: of several, each would take its piece before it is the turn of a check.
ONE_FILE = BoundedSemaphore(1)
BOTH_TYPES = {name: {"schema": ImportSchema} for name in ("application/json", YAML)}


@blueprint.route("/export", methods=["GET"])
@blueprint.doc(responses={200: {"description": "OK", "content": BOTH_TYPES}})
@requires("rules:read")
def export_rules() -> Response:
    """All rules of the tenant, as a file that `import` takes: JSON, or YAML where `Accept` prefers it."""
    rules = own_rules()
    chosen = request.accept_mimetypes.best_match(["application/json", *YAML_TYPES], "application/json")
    with ONE_FILE:
        return Response(write_rules(rules, yaml=chosen in YAML_TYPES, pace=_pace()), content_type=chosen)


@blueprint.route("/import", methods=["POST"])
@blueprint.arguments(ImportOptionsSchema, location="query")
@blueprint.doc(requestBody={"required": True, "content": BOTH_TYPES})
@blueprint.alt_response(200, schema=MergeSchema, success=True)
@requires("rules:write")
def import_rules(options: dict[str, bool]) -> Response:
    """Create or replace all rules of a file, or none of them, and answer what that changes.

    `replace=true` also deletes the rules that the file does not have; `dry_run=true` changes nothing.
    """
    rules = _sent_rules()
    if options["dry_run"]:
        session = in_one_state(db.session())
        merge = changes().compare(rules, replace=options["replace"])
        session.rollback()
    else:
        merge = changes().merge(rules, replace=options["replace"])
        refresh()
    with ONE_FILE:
        told = warnings_of_merge(merge, _pace())
        members = [f'"dry_run":{json.dumps(options["dry_run"])}']
        for name, shown in shown_merge_lists(merge, _pace()):
            members.append(f'"{name}":[{",".join(map(json.dumps, shown))}]')
        members += [f'"warnings":{json.dumps(told)}'] if told else []
        text = f"{{{','.join(members)}}}"
    return Response(text, content_type="application/json")


def _sent_rules() -> list[Rule]:
    yaml = request.mimetype in YAML_TYPES
    if not yaml and request.mimetype != "application/json":
        raise Problem(415, f"allowed as Content-Type are {', '.join(BOTH_TYPES)}")
    raw, tenant_id = read_body(request.environ), g.principal.tenant_id
    algorithm = current_app.extensions["ratelimiter"].settings.algorithm
    try:
        with ONE_FILE:
            return read_rules(raw, yaml=yaml, tenant_id=tenant_id, default_algorithm=algorithm, pace=_pace())
    except InvalidRules as invalid:
        raise invalid.as_problem() from None


def _pace() -> Pace:
    pace: Pace = current_app.extensions["ratelimiter"].pace
    return pace
