"""The compiled decoder of checks: what it accepts is valid, what it does not accept is for the schemas to judge.

It never refuses. `None` means: ask `app/api/decoding.py`, which accepts the rest of what is valid and explains what is
not. tests/api/test_decoding.py keeps the two in agreement.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from app.api.schemas import MAX_BATCH, MAX_CLIENT_ID, MAX_LIMIT_KEY
from app.limiter.decision import Check
from app.rules.rule import MAX_AMOUNT


class PlainCheck(msgspec.Struct, forbid_unknown_fields=True):
    client_id: Annotated[str, Meta(min_length=1, max_length=MAX_CLIENT_ID)]
    limit_key: Annotated[str, Meta(min_length=1, max_length=MAX_LIMIT_KEY)] | UnsetType = UNSET
    cost: Annotated[int, Meta(ge=0, le=MAX_AMOUNT)] | UnsetType = UNSET
    request_id: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._-]{1,64}\Z")] | UnsetType = UNSET


class PlainBatch(msgspec.Struct, forbid_unknown_fields=True):
    checks: Annotated[list[PlainCheck], Meta(min_length=1, max_length=MAX_BATCH)]


_decode_check = msgspec.json.Decoder(PlainCheck).decode
_decode_batch = msgspec.json.Decoder(PlainBatch).decode


def plain_check(raw: bytes) -> Check | None:
    """The check, if it is one without escapes or unusual characters."""
    if b"\\" in raw:
        return None
    try:
        sent = _decode_check(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    check = _check(sent)
    return check if check is not None and raw.count(b'"') == _quotes(sent) else None


def plain_batch(raw: bytes) -> list[Check] | None:
    """The checks of a batch, if all of them are plain."""
    if b"\\" in raw:
        return None
    try:
        sent = _decode_batch(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    checks = [check for item in sent.checks if (check := _check(item)) is not None]
    whole = len(checks) == len(sent.checks) and raw.count(b'"') == 2 + sum(map(_quotes, sent.checks))
    return checks if whole else None


def _check(sent: PlainCheck) -> Check | None:
    limit_key = "global" if sent.limit_key is UNSET else sent.limit_key
    if not (sent.client_id.isprintable() and limit_key.isprintable()):
        return None
    request_id = None if sent.request_id is UNSET else sent.request_id
    return Check(sent.client_id, limit_key, 1 if sent.cost is UNSET else sent.cost, request_id)


def _quotes(sent: PlainCheck) -> int:
    """Quotation marks of its members when each is given once. The decoder lets the last of several win."""
    texts = 1 + (sent.limit_key is not UNSET) + (sent.request_id is not UNSET)
    return 4 * texts + 2 * (sent.cost is not UNSET)
