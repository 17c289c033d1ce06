"""From bytes to valid checks, or to a Problem that says what is wrong."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from marshmallow import Schema, ValidationError, fields

from app.api.check.fast_decoding import Batch, check_of, fast_batch, fast_check
from app.api.check.schemas import MAX_BATCH, BatchSchema, CheckSchema
from app.api.problems import INVALID, Problem
from app.api.schemas import BoundedList
from app.api.strict_json import parsed
from app.limiter.decision import Check


class _Item(fields.Nested):
    """A check of a batch. A valid one skips the schema, at a tenth of its cost; the schema explains the others."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Check:
        return check_of(value) or Check(**super()._deserialize(value, *args, **kwargs))


class _Batch(BatchSchema):
    checks = BoundedList(_Item(CheckSchema), 1, MAX_BATCH, required=True)


_CHECK, _BATCH = CheckSchema(), _Batch()
# A denied client repeats the same request, byte for byte. With its key, its check and its place in the cache, an entry
# takes up to 1.2 KB, so all of them 1.2 MB.
_recent_check = lru_cache(maxsize=1024)(fast_check)
MAX_CACHED_BYTES = 512


def decode_check(raw: bytes) -> Check:
    """One check. Raises Problem 400 (not JSON) or 422 (not a valid check)."""
    fast = _recent_check(raw) if len(raw) <= MAX_CACHED_BYTES else fast_check(raw)
    return fast or Check(**_valid(_CHECK, parsed(raw)))


def valid_check(sent: dict[str, Any]) -> Check:
    """The check with these members. Raises Problem 422."""
    return check_of(sent) or Check(**_valid(_CHECK, sent))


def decode_batch(raw: bytes) -> Batch:
    """The batch; one invalid check refuses all. Raises Problem 400 or 422."""
    return fast_batch(raw) or Batch(**_valid(_BATCH, parsed(raw, where="checks")))


def _valid(schema: Schema, sent: Any) -> Any:
    try:
        return schema.load(sent)
    except ValidationError as error:
        raise Problem(422, INVALID, errors=dict(error.messages_dict)) from None
