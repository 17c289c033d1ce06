"""A shadow rule that has shown what it does becomes the one that is enforced."""

from __future__ import annotations

from msgspec.structs import replace

from app.rules.errors import Conflict
from app.rules.rule import Rule


def promoted(shadow: Rule, twin: Rule | None) -> Rule:
    """The enforced rule that comes of the shadow and of its twin, the enforced rule of the same client and endpoint.

    What the shadow does not say, a `fail_mode` or a description, is the twin's. Raises Conflict.
    """
    if not shadow.shadow:
        raise Conflict(f"rule {shadow.id} is not a shadow rule: it is enforced already", "not-on-trial")
    if not shadow.enabled:
        raise Conflict(f"rule {shadow.id} is disabled, so it was not measured: enable it first", "not-on-trial")
    if twin is None:
        return replace(shadow, shadow=False)
    kept = {"fail_mode": shadow.fail_mode or twin.fail_mode, "description": shadow.description or twin.description}
    return replace(shadow, shadow=False, **kept)
