"""All rules of a tenant as a file, out and in."""

from __future__ import annotations

import json
import time
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from io import BytesIO

from flask import Response, current_app, g, request
from flask_smorest import Blueprint
from gevent.lock import BoundedSemaphore

from app.api.admin import changes, refresh
from app.api.admin_schemas import ExportSchema, ImportOptionsSchema, ImportSchema, MergeSchema
from app.api.auth import requires
from app.api.bodies import MAX_BYTES_OF_IMPORT, read_body
from app.api.problems import Problem
from app.api.rule_files import YAML, YAML_TYPES, InvalidRules, in_pieces, read_rules, write_rules
from app.api.rule_forms import shown_merge_lists
from app.api.rule_warnings import warnings_of_merge
from app.extensions import db
from app.rules.merge import Merge
from app.rules.pace import Pace, Together
from app.rules.repository import RuleRepository, in_one_state
from app.rules.rule import Rule

blueprint = Blueprint("transfer", __name__, url_prefix="/v1/admin", description="Export and import")

# Read or written by a worker at a time: of several, each would take its piece before it is the turn of a check. Of
# large files one at a time is in memory, from its first byte to the last of its answer; small ones do not wait for it.
SMALL, LARGE = BoundedSemaphore(1), BoundedSemaphore(1)
LARGE_BYTES, LARGE_RULES = 1024 * 1024, 5_000
WAIT_SECONDS = 60
BUSY = "this worker has another large file of rules in hand: try again"
TOO_LARGE = f"the rules have more than {MAX_BYTES_OF_IMPORT} bytes as a file: use flask rules export"
TYPES = ("application/json", YAML)


@blueprint.route("/export", methods=["GET"])
@blueprint.doc(responses={200: {"description": "OK", "content": {name: {"schema": ExportSchema} for name in TYPES}}})
@requires("rules:read")
def export_rules() -> Response:
    """All rules of the tenant, as a file that `import` takes: JSON, or YAML where `Accept` prefers it."""
    tenant_id, session = g.principal.tenant_id, db.session()
    chosen = request.accept_mimetypes.best_match(["application/json", *YAML_TYPES], "application/json")
    large = RuleRepository(session).count(tenant_id) > LARGE_RULES
    session.rollback()
    with ExitStack() as work:
        work.enter_context(_alone(LARGE if large else SMALL))
        rules = RuleRepository(in_one_state(session)).each(tenant_id)
        pieces = _bounded(in_pieces(write_rules(_pace()(rules), yaml=chosen in YAML_TYPES)))
        session.rollback()
        response = Response(pieces, content_type=chosen)
        return _until_sent(work, response) if large else response


@blueprint.route("/import", methods=["POST"])
@blueprint.arguments(ImportOptionsSchema, location="query")
@blueprint.doc(requestBody={"required": True, "content": {name: {"schema": ImportSchema} for name in TYPES}})
@blueprint.alt_response(200, schema=MergeSchema, success=True)
@requires("rules:write")
def import_rules(options: dict[str, bool]) -> Response:
    """Create or replace all rules of a file, or none of them, and answer what that changes.

    `replace=true` also deletes the rules that the file does not have; `dry_run=true` changes nothing.
    """
    yaml = request.mimetype in YAML_TYPES
    if not yaml and request.mimetype != "application/json":
        raise Problem(415, f"allowed as Content-Type are {', '.join(TYPES)}")
    large = request.content_length is None or request.content_length > LARGE_BYTES
    with ExitStack() as work:
        if large:
            work.enter_context(_alone(LARGE))
        answer = _imported(options, yaml=yaml, large=large)
        return _until_sent(work, Response(answer, content_type="application/json"))


def _imported(options: dict[str, bool], *, yaml: bool, large: bool) -> list[bytes]:
    """Import the body. The answer."""
    raw = read_body(request.environ)
    with nullcontext() if large else _alone(SMALL):
        rules = _read(raw, yaml=yaml)
    del raw
    if options["dry_run"]:
        session = in_one_state(db.session())
        merge = changes().compare(rules, replace=options["replace"])
        session.rollback()
    else:
        merge = changes().merge(rules, replace=options["replace"])
        refresh()
    with nullcontext() if large else _alone(SMALL):
        return list(in_pieces(_told(merge, dry_run=options["dry_run"])))


def _read(raw: bytes, *, yaml: bool) -> list[Rule]:
    algorithm = current_app.extensions["ratelimiter"].settings.algorithm
    pace = Together(time.monotonic)
    try:
        return read_rules(
            BytesIO(raw), yaml=yaml, tenant_id=g.principal.tenant_id, default_algorithm=algorithm, pace=pace
        )
    except InvalidRules as invalid:
        raise invalid.as_problem() from None


def _told(merge: Merge, *, dry_run: bool) -> Iterator[str]:
    """The merge as MergeSchema shows it."""
    warnings = warnings_of_merge(merge, _pace())
    yield f'{{"dry_run":{json.dumps(dry_run)}'
    for name, shown in shown_merge_lists(merge, _pace()):
        yield f',"{name}":['
        yield from (f"{',' if place else ''}{json.dumps(rule)}" for place, rule in enumerate(shown))
        yield "]"
    yield f',"warnings":{json.dumps(warnings)}}}' if warnings else "}"


@contextmanager
def _alone(turn: BoundedSemaphore) -> Iterator[None]:
    """No other file of this size is worked on meanwhile. Raises Problem 503 where that takes too long."""
    if not turn.acquire(timeout=WAIT_SECONDS):
        raise Problem(503, BUSY, kind="busy", headers={"Retry-After": "10"})
    try:
        yield
    finally:
        turn.release()


def _until_sent(work: ExitStack, response: Response) -> Response:
    """The response, with which the work ends: once it was sent, or where it never is."""
    weakref.finalize(response, work.pop_all().close)
    return response


def _bounded(pieces: Iterator[bytes]) -> list[bytes]:
    """All of them. Raises Problem 409 where they are more than an import takes."""
    kept, length = list[bytes](), 0
    for piece in pieces:
        kept.append(piece)
        length += len(piece)
        if length > MAX_BYTES_OF_IMPORT:
            raise Problem(409, TOO_LARGE, kind="file-too-large")
    return kept


def _pace() -> Pace:
    pace: Pace = current_app.extensions["ratelimiter"].pace
    return pace
