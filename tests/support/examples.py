"""How many examples Hypothesis tries: the gate fewer than a search, for it tries the same ones in every run.

To look for new ones: HYPOTHESIS_PROFILE=explore make test ARGS=tests/server
"""

from __future__ import annotations

import os

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "gate")


def examples(number: int) -> int:
    """Of a search so many, in the gate a third of it."""
    return number // 3 if PROFILE == "gate" else number
