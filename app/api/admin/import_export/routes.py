"""Export and import of all rules of a tenant as a file."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO

from flask import Response, g, request
from flask_smorest import Blueprint
from gevent.lock import BoundedSemaphore

from app.api.admin.import_export.rule_files import YAML, YAML_TYPES, InvalidRules, in_pieces, read_rules, write_rules
from app.api.admin.import_export.schemas import ExportSchema, ImportOptionsSchema, ImportSchema, MergeSchema
from app.api.admin.import_export.unsent_files import UnsentFiles
from app.api.admin.rules.routes import changes, refresh
from app.api.admin.rules.rule_json import merge_answer_lists
from app.api.admin.rules.rule_warnings import warnings_of_merge
from app.api.auth import requires
from app.api.problems import Problem
from app.api.request_body import MAX_BYTES_OF_IMPORT, read_body
from app.api.services import services
from app.extensions import db
from app.rules.rule import Rule
from app.rules.sql.merge import Merge
from app.rules.sql.repository import RuleRepository, in_one_state
from app.rules.sync.garbage_collection import long_work
from app.rules.sync.yielding import Pace, SharedPace, let_go

blueprint = Blueprint("transfer", __name__, url_prefix="/v1/admin", description="Export and import")

# A worker processes one small and one large file at a time: several would each run a piece before the next check. Small
# files do not wait for a large one. A finished answer leaves its slot, and counts as UNSENT.
SMALL, LARGE = BoundedSemaphore(1), BoundedSemaphore(1)
LARGE_BYTES = 1024 * 1024
UNSENT = UnsentFiles(most=2 * MAX_BYTES_OF_IMPORT, most_of_tenant=MAX_BYTES_OF_IMPORT // 2)
WAIT_SECONDS = 60
BUSY = "this worker is processing another large file of rules: try again later"
TOO_LARGE = f"the rules have more than {MAX_BYTES_OF_IMPORT} bytes as a file: use flask rules export"
TYPES = ("application/json", YAML)


@blueprint.route("/export", methods=["GET"])
@blueprint.doc(responses={200: {"description": "OK", "content": {name: {"schema": ExportSchema} for name in TYPES}}})
@requires("rules:read")
def export_rules() -> Response:
    """Export all rules of the tenant, as a file that `import` takes: JSON, or YAML where `Accept` prefers it."""
    chosen = request.accept_mimetypes.best_match(["application/json", *YAML_TYPES], "application/json")
    yaml, tenant_id = chosen in YAML_TYPES, g.principal.tenant_id
    pieces = _exported(SMALL, LARGE_BYTES, yaml=yaml) or _exported(LARGE, MAX_BYTES_OF_IMPORT, yaml=yaml)
    if pieces is None:
        raise Problem(409, TOO_LARGE, kind="file-too-large")
    return UNSENT.until_sent(tenant_id, pieces, chosen)


def _exported(slot: BoundedSemaphore, most: int, *, yaml: bool) -> list[bytes] | None:
    """The tenant's rules as a file; None if it has more than `most` bytes. Only writing it shows its length."""
    tenant_id = g.principal.tenant_id
    with _alone(slot):
        UNSENT.refuse_more(tenant_id)
        session = in_one_state(db.session())
        rules = RuleRepository(session).each(tenant_id)
        pieces = _bounded(in_pieces(write_rules(_pace()(rules), yaml=yaml)), most)
        session.rollback()
        return pieces


@blueprint.route("/import", methods=["POST"])
@blueprint.arguments(ImportOptionsSchema, location="query")
@blueprint.doc(requestBody={"required": True, "content": {name: {"schema": ImportSchema} for name in TYPES}})
@blueprint.alt_response(200, schema=MergeSchema, success=True)
@requires("rules:write")
def import_rules(options: dict[str, bool]) -> Response:
    """Create or replace all rules of a file, or none of them, and answer with the changes.

    `replace=true` also deletes the rules that the file does not have; `dry_run=true` changes nothing,
    and is refused where the import would be.
    """
    yaml = request.mimetype in YAML_TYPES
    if not yaml and request.mimetype != "application/json":
        raise Problem(415, f"Content-Type must be one of {', '.join(TYPES)}")
    large = request.content_length is None or request.content_length > LARGE_BYTES
    with _alone(LARGE) if large else nullcontext():
        answer = _imported(options, yaml=yaml, large=large)
        return UNSENT.until_sent(g.principal.tenant_id, answer, "application/json")


def _imported(options: dict[str, bool], *, yaml: bool, large: bool) -> list[bytes]:
    """Import the body. Returns the answer."""
    UNSENT.refuse_more(g.principal.tenant_id)
    raw = read_body(request.environ)
    with nullcontext() if large else _alone(SMALL):
        rules = _read(raw, yaml=yaml)
    del raw
    try:
        return _merged(rules, options, large=large)
    finally:
        let_go(_pace(), rules)


def _merged(rules: list[Rule], options: dict[str, bool], *, large: bool) -> list[bytes]:
    """Import the rules, or find out what that would change. Returns the answer."""
    if options["dry_run"]:
        session = in_one_state(db.session())
        merge = changes().trial(rules, replace=options["replace"])
        session.rollback()
    else:
        merge = changes().merge(rules, replace=options["replace"])
        refresh()
    with nullcontext() if large else _alone(SMALL):
        if options["dry_run"]:  # a change that was made is always reported
            UNSENT.refuse_more(g.principal.tenant_id)
        answer = list(in_pieces(_merge_answer(merge, dry_run=options["dry_run"])))
        let_go(_pace(), *merge.lists())
        return answer


def _read(raw: bytes, *, yaml: bool) -> list[Rule]:
    algorithm = services().settings.algorithm
    pace = SharedPace(time.monotonic)
    try:
        return read_rules(
            BytesIO(raw), yaml=yaml, tenant_id=g.principal.tenant_id, default_algorithm=algorithm, pace=pace
        )
    except InvalidRules as invalid:
        raise invalid.as_problem() from None


def _merge_answer(merge: Merge, *, dry_run: bool) -> Iterator[str]:
    """The merge as MergeSchema shows it."""
    warnings = warnings_of_merge(merge, _pace())
    yield f'{{"dry_run":{json.dumps(dry_run)}'
    for name, shown in merge_answer_lists(merge, _pace()):
        yield f',"{name}":['
        yield from (f"{',' if place else ''}{json.dumps(rule)}" for place, rule in enumerate(shown))
        yield "]"
    yield f',"warnings":{json.dumps(warnings)}}}' if warnings else "}"


@contextmanager
def _alone(slot: BoundedSemaphore) -> Iterator[None]:
    """Exclude other files of this size meanwhile. Raises Problem 503 where the wait is too long."""
    if not slot.acquire(timeout=WAIT_SECONDS):
        raise Problem(503, BUSY, kind="busy", headers={"Retry-After": "10"})
    try:
        with long_work:
            yield
    finally:
        slot.release()


def _bounded(pieces: Iterator[bytes], most: int) -> list[bytes] | None:
    """All pieces; None if they have more than `most` bytes."""
    kept, length = list[bytes](), 0
    for piece in pieces:
        kept.append(piece)
        length += len(piece)
        if length > most:
            return None
    return kept


def _pace() -> Pace:
    pace: Pace = services().pace
    return pace
