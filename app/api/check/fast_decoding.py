"""The compiled decoder of checks: what it accepts is valid, what it does not accept is for the schemas to judge.

It never refuses. `None` means: ask `app/api/check/decoding.py`, which accepts the rest of what is valid and explains
what is not. tests/api/check/test_decoding.py keeps the two in agreement.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from app.api.check.schemas import MAX_BATCH
from app.api.schemas import MAX_CLIENT_ID, MAX_LIMIT_KEY, UNPRINTABLE
from app.limiter.decision import Check
from app.rules.rule import MAX_AMOUNT


class CheckJson(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    client_id: Annotated[str, Meta(min_length=1, max_length=MAX_CLIENT_ID)]
    limit_key: Annotated[str, Meta(min_length=1, max_length=MAX_LIMIT_KEY)] | UnsetType = UNSET
    cost: Annotated[int, Meta(ge=0, le=MAX_AMOUNT)] | UnsetType = UNSET
    request_id: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._-]{1,64}\Z")] | UnsetType = UNSET


class BatchJson(msgspec.Struct, forbid_unknown_fields=True):
    checks: Annotated[list[CheckJson], Meta(min_length=1, max_length=MAX_BATCH)]


_convert = partial(msgspec.convert, type=CheckJson)
_decode_check = msgspec.json.Decoder(CheckJson).decode
_decode_batch = msgspec.json.Decoder(BatchJson).decode


def fast_check(raw: bytes) -> Check | None:
    """The check, if it is one without escapes or unusual characters."""
    if b"\\" in raw:
        return None
    try:
        sent = _decode_check(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    checks = _checks([sent], raw, 0)
    return checks[0] if checks else None


def fast_batch(raw: bytes) -> list[Check] | None:
    """The checks of a batch, if all of them are plain."""
    if b"\\" in raw:
        return None
    try:
        sent = _decode_batch(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return _checks(sent.checks, raw, 2)


def check_of(sent: Any) -> Check | None:
    """The check that this value of the JSON parser is, if it is a valid one."""
    if type(sent) is not dict:  # of its subclass are those that give a member more than once
        return None
    try:
        item = _convert(sent)
    except (msgspec.ValidationError, UnicodeEncodeError):  # the latter of half a surrogate pair where no text belongs
        return None
    limit_key = "global" if item.limit_key is UNSET else item.limit_key
    if UNPRINTABLE.search(item.client_id) or UNPRINTABLE.search(limit_key):
        return None
    cost, request_id = 1 if item.cost is UNSET else item.cost, None if item.request_id is UNSET else item.request_id
    return Check(item.client_id, limit_key, cost, request_id)


def _checks(sent: list[CheckJson], raw: bytes, quotes: int) -> list[Check] | None:
    """With the defaults of what was not sent; None where a text is unusual, or a member was given more than once.

    The decoder lets the last of several win, but the quotation marks of all are there: a name has two, a text two more.
    `quotes` are those around the checks. What is ASCII the decoder has judged, all but DEL.
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
        checks.append(Check(client_id, limit_key, cost, None if request_id is UNSET else request_id))
    return checks if quotes == raw.count(b'"') else None
