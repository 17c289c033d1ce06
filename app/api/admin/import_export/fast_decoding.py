"""Recognises valid rules in their usual spelling at a tenth of the schema's cost: a file has up to 100,000.

It never refuses. `None` means: ask RuleSchema, which accepts the remaining valid rules and explains the invalid ones.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from marshmallow import ValidationError
from msgspec import UNSET, Meta, UnsetType

from app.api.admin.rules.schemas import refuse_impossible
from app.api.schemas import MAX_CLIENT_ID, MAX_DESCRIPTION, MAX_GROUP, MAX_LIMIT_KEY, UNPRINTABLE, Repeating
from app.rules.documents import FIELDS, LIMIT_FIELDS
from app.rules.matching.glob import MAX_STARS, stars
from app.rules.matching.networks import problem_of
from app.rules.rule import (
    ACTIONS,
    ALGORITHMS,
    DEFAULT_LAYER,
    FAIL_MODES,
    LAYER,
    MAX_AMOUNT,
    MAX_LIMITS,
    MAX_WINDOW_SECONDS,
)

Amount = Annotated[int, Meta(ge=1, le=MAX_AMOUNT)]
Window = Annotated[int, Meta(ge=1, le=MAX_WINDOW_SECONDS)]
Algorithm = Literal[ALGORITHMS]  # type: ignore[valid-type]  # a tuple stands for the choice of its items
Action = Literal[ACTIONS]  # type: ignore[valid-type]
FailMode = Literal[FAIL_MODES]  # type: ignore[valid-type]


class LimitJson(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    rate: Amount
    window: Window
    algorithm: Algorithm | None = None
    burst: Amount | None = None


class RuleJson(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One limit by its fields, or several by `limits`; for a client or for a group."""

    client_id: Annotated[str, Meta(min_length=1, max_length=MAX_CLIENT_ID)] | None = None
    group: Annotated[str, Meta(min_length=1, max_length=MAX_GROUP)] | None = None
    layer: Annotated[str, Meta(pattern=rf"\A{LAYER}\Z")] = DEFAULT_LAYER
    shared: bool = False
    endpoint: Annotated[str, Meta(min_length=1, max_length=MAX_LIMIT_KEY)] | None = None
    rate: Amount | UnsetType = UNSET
    window: Window | UnsetType = UNSET
    algorithm: Algorithm | UnsetType | None = UNSET
    burst: Amount | UnsetType | None = UNSET
    limits: Annotated[list[LimitJson], Meta(min_length=1, max_length=MAX_LIMITS)] | UnsetType = UNSET
    action: Action = "limit"
    fail_mode: FailMode | None = None
    shadow: bool = False
    enabled: bool = True
    description: Annotated[str, Meta(max_length=MAX_DESCRIPTION)] = ""


_convert = partial(msgspec.convert, type=RuleJson)


def fast_rule(sent: Any) -> dict[str, Any] | None:
    """The rule as RuleSchema would load it; None if only RuleSchema can tell."""
    if not isinstance(sent, dict) or isinstance(sent, Repeating):
        return None
    try:
        rule = _convert(sent)
        limits = _limits(rule, sent)
    except (msgspec.ValidationError, ValidationError, UnicodeEncodeError):  # UnicodeEncodeError: a lone surrogate
        return None
    if limits is None or (rule.client_id is None) == (rule.group is None):
        return None
    pattern = rule.client_id or rule.group or ""
    if stars(pattern) > MAX_STARS or (rule.client_id is not None and problem_of(rule.client_id)):
        return None
    texts = (pattern, rule.endpoint or "", rule.description)
    if any(map(UNPRINTABLE.search, texts)):
        return None
    return {name: getattr(rule, name) for name in FIELDS} | limits


def _limits(rule: RuleJson, sent: dict[str, Any]) -> dict[str, Any] | None:
    """The members that hold the limits. Raises ValidationError for an impossible limit."""
    beside = {name: sent[name] for name in LIMIT_FIELDS if name in sent}
    if rule.limits is UNSET:
        if not beside:
            return None if rule.action == "limit" else {}
        if rule.rate is UNSET or rule.window is UNSET:
            return None
        refuse_impossible(beside)
        return beside
    if beside or any(isinstance(limit, Repeating) for limit in sent["limits"]):
        return None
    limits = [msgspec.structs.asdict(limit) for limit in rule.limits]
    for limit in limits:
        refuse_impossible(limit)
    return {"limits": limits}
