"""The compiled decoder of checks (msgspec). It accepts only valid checks, and leaves the others to the schemas.

It never refuses. `None` means: ask `app/api/check/decoding.py`, which accepts the remaining valid checks and explains
the invalid ones. tests/api/check/test_decoding.py keeps the two in agreement.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import UNSET, Meta, UnsetType

from app.api.check.schemas import MAX_BATCH
from app.api.schemas import MAX_CLIENT_ID, MAX_GROUP, MAX_LIMIT_KEY, UNPRINTABLE
from app.limiter.decision import Check
from app.rules.rule import MAX_AMOUNT, MAX_GROUPS

Group = Annotated[str, Meta(min_length=1, max_length=MAX_GROUP)]


class CheckJson(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    client_id: Annotated[str, Meta(min_length=1, max_length=MAX_CLIENT_ID)]
    limit_key: Annotated[str, Meta(min_length=1, max_length=MAX_LIMIT_KEY)] | UnsetType = UNSET
    cost: Annotated[int, Meta(ge=0, le=MAX_AMOUNT)] | UnsetType = UNSET
    request_id: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._-]{1,64}\Z")] | UnsetType = UNSET
    groups: Annotated[tuple[Group, ...], Meta(max_length=MAX_GROUPS)] | UnsetType = UNSET


class BatchJson(msgspec.Struct, forbid_unknown_fields=True):
    checks: Annotated[list[CheckJson], Meta(min_length=1, max_length=MAX_BATCH)]
    together: bool | UnsetType = UNSET
    headers: bool | UnsetType = UNSET


class Batch(NamedTuple):
    """`together`: all checks are admitted, or none is. `headers`: each decision has those of a single answer."""

    checks: list[Check]
    together: bool = False
    headers: bool = False


_convert = partial(msgspec.convert, type=CheckJson)
_decode_check = msgspec.json.Decoder(CheckJson).decode
_decode_batch = msgspec.json.Decoder(BatchJson).decode


def fast_check(raw: bytes) -> Check | None:
    """The check; None for escapes, unusual characters or an invalid check."""
    if b"\\" in raw:
        return None
    try:
        sent = _decode_check(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    checks = _checks([sent], raw, 0)
    return checks[0] if checks else None


def fast_batch(raw: bytes) -> Batch | None:
    """The batch; None unless `fast_check` would take all of its checks."""
    if b"\\" in raw:
        return None
    try:
        sent = _decode_batch(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    names = 1 + (sent.together is not UNSET) + (sent.headers is not UNSET)
    checks = _checks(sent.checks, raw, 2 * names)
    return None if checks is None else Batch(checks, sent.together is True, sent.headers is True)


def check_of(sent: Any) -> Check | None:
    """The check that the JSON parser read as `sent`; None if it is not valid."""
    if type(sent) is not dict:  # its subclass Repeating has a member more than once
        return None
    try:
        item = _convert(sent)
    # UnicodeEncodeError: a lone surrogate where no text belongs.
    except (msgspec.ValidationError, UnicodeEncodeError):
        return None
    limit_key = "global" if item.limit_key is UNSET else item.limit_key
    groups = () if item.groups is UNSET else item.groups
    if any(map(UNPRINTABLE.search, (item.client_id, limit_key, *groups))) or len(set(groups)) < len(groups):
        return None
    cost, request_id = 1 if item.cost is UNSET else item.cost, None if item.request_id is UNSET else item.request_id
    return Check(item.client_id, limit_key, cost, request_id, groups=groups)


def _checks(sent: list[CheckJson], raw: bytes, quotes: int) -> list[Check] | None:
    """The checks with defaults for members not sent. None for unusual characters, or a member given more than once.

    msgspec keeps the last of duplicate members, so duplicates are found by counting quotation marks: 2 per name, 2 more
    per text. `quotes`: those around the checks. The decoder has already refused all unprintable ASCII except DEL.
    """
    checks, judged = [], raw.isascii() and b"\x7f" not in raw
    quotes += 8 * len(sent)  # most have a client_id and a limit_key
    for item in sent:
        client_id, limit_key, cost, request_id = item.client_id, item.limit_key, item.cost, item.request_id
        if limit_key is UNSET:
            limit_key = "global"
            quotes -= 4
        if cost is UNSET:
            cost = 1
        else:
            quotes += 2
        if request_id is not UNSET:
            quotes += 4
        if not (judged or (client_id.isprintable() and limit_key.isprintable())):
            return None
        groups = item.groups
        if groups is UNSET:
            checks.append(Check(client_id, limit_key, cost, None if request_id is UNSET else request_id))
            continue
        quotes += 2 + 2 * len(groups)
        if len(set(groups)) < len(groups) or not (judged or all(map(str.isprintable, groups))):
            return None
        checks.append(Check(client_id, limit_key, cost, None if request_id is UNSET else request_id, False, groups))
    return checks if quotes == raw.count(b'"') else None
