"""Promotes a shadow rule to the enforced one."""

from __future__ import annotations

from msgspec.structs import replace

from app.rules.errors import Conflict
from app.rules.rule import Rule


def promoted(shadow: Rule, twin: Rule | None) -> Rule:
    """Return the enforced rule made from the shadow and its twin, the enforced rule of the same client and endpoint.

    The twin provides what the shadow leaves open: `fail_mode` and description. Raises Conflict.
    """
    if not shadow.shadow:
        raise Conflict(f"rule {shadow.id} is not a shadow rule: it is enforced already", "not-on-trial")
    if not shadow.enabled:
        raise Conflict(f"rule {shadow.id} is disabled, so it was not measured: enable it first", "not-on-trial")
    if twin is None:
        return replace(shadow, shadow=False)
    kept = {"fail_mode": shadow.fail_mode or twin.fail_mode, "description": shadow.description or twin.description}
    return replace(shadow, shadow=False, **kept)
