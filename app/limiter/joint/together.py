"""Checks of one batch that are admitted and charged together, or none of them."""

from __future__ import annotations

from collections.abc import Sequence

from app.limiter.compiled_rule import Charge
from app.limiter.errors import TooMuchTogether
from app.limiter.joint.progress import Decided
from app.limiter.joint.spanning import Spanning

# Redis time of the charges, by the estimates for single checks. Together they take up to twice as long. Meanwhile all
# other clients of Redis wait.
TOGETHER_US = 10_000


def together(spanning: Spanning, charges: Sequence[Charge], *, denied: bool) -> list[Decided | None]:
    """Return the result of each charge by itself; None for a rule that counts nothing. All are charged, or none.

    `denied`: other checks of the batch are denied already. Raises TooMuchTogether.
    """
    if sum(charge.compiled.work_us for charge in charges) > TOGETHER_US:
        raise TooMuchTogether
    counting = [charge for charge in charges if charge.compiled.counts_units]
    blocked = any(charge.compiled.rule.action == "block" for charge in charges)
    found = iter(spanning.together(counting, only_ask=denied or blocked))
    return [next(found) if charge.compiled.counts_units else None for charge in charges]
