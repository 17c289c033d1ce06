"""Actions on rules: block and unblock a client, promote a shadow."""

from __future__ import annotations

from typing import Any

from flask import g
from marshmallow import Schema, fields

from app.api.admin.rules.routes import RULE, RuleResponse, changed, changes, refresh
from app.api.admin.rules.rule_json import rule_answer
from app.api.admin.rules.rule_warnings import if_readable, warnings_of_block
from app.api.admin.rules.schemas import ClientToBlockSchema, RuleAnswerSchema, StoredRuleSchema
from app.api.auth import requires
from app.api.etags import Precondition, conditional
from app.api.schemas import MAX_CLIENT_ID, StrictSchema, text_field
from app.api.strict_blueprint import StrictBlueprint
from app.extensions import db
from app.rules.sql.merge import Merge
from app.rules.sql.repository import RuleRepository

blueprint = StrictBlueprint("actions", __name__, url_prefix="/v1/admin", description="Rules: block, promote")


class BlockedClientSchema(StrictSchema):
    client_id = text_field(MAX_CLIENT_ID, required=True, metadata={"description": "an id, or a pattern as it stands"})


class BlockSchema(Schema):
    """`rules`: the changed rules of the client in their new state; `deleted`: the ids of rules that the change removed.

    `warnings` (if any): other rules that still admit some of the clients, or block them.
    """

    client_id = fields.String(required=True)
    rules = fields.List(fields.Nested(StoredRuleSchema), required=True)
    deleted = fields.List(fields.Integer(), required=True)
    warnings = fields.List(fields.String())


class NothingSchema(StrictSchema):
    """The request has no content: a body is not read."""


NO_BODY = {"required": False, "content": {"application/json": {"schema": NothingSchema}}}


@blueprint.route("/rules/block", methods=["POST"])
@blueprint.arguments(ClientToBlockSchema)
@blueprint.response(200, BlockSchema)
@requires("rules:write")
def block_client(sent: dict[str, str]) -> dict[str, Any]:
    """Deny the client (or pattern) everything: its rule for any endpoint, made if need be, and each for an endpoint.

    Their limits are kept. More specific clients have their own rules, which stay in force: `warnings` names them. The
    block is in the layer default, which suffices: a block in any layer denies.
    """
    return _answer(sent["client_id"], changes().block(sent["client_id"]))


@blueprint.route("/rules/unblock", methods=["POST"])
@blueprint.arguments(BlockedClientSchema)
@blueprint.response(200, BlockSchema)
@requires("rules:write")
def unblock_client(sent: dict[str, str]) -> dict[str, Any]:
    """End a block: the client's rules of the layer default act as before. A rule that the block made is deleted.

    `warnings` names rules that still block the client, in any layer.
    """
    return _answer(sent["client_id"], changes().unblock(sent["client_id"]))


@blueprint.route(RULE.removeprefix("/v1/admin") + "/promote", methods=["POST"])
@blueprint.doc(requestBody=NO_BODY)
@blueprint.response(200, RuleAnswerSchema)
@conditional
@requires("rules:write")
def promote_rule(rule_id: int) -> RuleResponse:
    """Enforce a shadow rule.

    If its client and endpoint already have an enforced rule, that rule takes over the shadow's fields, and the shadow
    is deleted. It keeps its id, its counters (unless `shared` changes), and the fail mode and description where the
    shadow has none.
    """
    precondition = Precondition()
    stored = changes().promote(rule_id, precondition)
    return changed(stored, precondition.before)


def _answer(client_id: str, merge: Merge) -> dict[str, Any]:
    refresh()
    rules = [*merge.created, *(after for _, after in merge.replaced), *merge.unchanged]
    warnings = (
        if_readable(lambda: warnings_of_block(client_id, g.principal.tenant_id, RuleRepository(db.session()))) or []
    )
    body = {
        "client_id": client_id,
        "rules": [rule_answer(rule) for rule in rules],
        "deleted": [rule.id for rule in merge.deleted],
    }
    return body | ({"warnings": warnings} if warnings else {})
