"""The Redis user that docs/operations.md describes."""

from __future__ import annotations

import re

from tests.support.node import ROOT

PASSWORD = "s3cret-of-redis"


def acl_command(*more: str) -> list[str]:
    """Makes the user, with what else the document grants for a topology: it must stand there."""
    text = (ROOT / "docs/operations.md").read_text()
    [granted] = re.findall(r"^ACL SETUSER ratelimiter (.*) >\S+$", text, re.MULTILINE)
    assert not more or f"`{' '.join(more)}`" in text
    return ["ACL", "SETUSER", "ratelimiter", *granted.split(), *more, f">{PASSWORD}"]
