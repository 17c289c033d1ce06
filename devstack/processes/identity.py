"""As whom a program runs."""

from __future__ import annotations

import dataclasses
import os
import pwd
from typing import Literal

from devstack.errors import StartError


@dataclasses.dataclass(frozen=True)
class Identity:
    """`own`: as this process. `user`: as that user. `namespace`: as this process, but it sees itself as that user."""

    kind: Literal["own", "user", "namespace"]
    uid: int
    gid: int


OWN = Identity("own", os.geteuid(), os.getegid())


def nobody(kind: Literal["user", "namespace"]) -> Identity:
    """The user without rights, as this system numbers it."""
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise StartError("PostgreSQL does not run as root, and there is no user nobody: set DATABASE_URL") from None
    return Identity(kind, entry.pw_uid, entry.pw_gid)
