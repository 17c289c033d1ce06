"""The key for a first administrator."""

from __future__ import annotations

import secrets
from pathlib import Path

from devstack.private_file import write_private


def admin_key(path: Path) -> str:
    """Returns the key in that file; makes a new one if there is none."""
    key = path.read_text().strip() if path.exists() else ""
    if not key:
        key = f"rl_{secrets.token_urlsafe(32)}"
        write_private(path, key)
    return key
