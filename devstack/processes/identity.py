"""The user under which a program runs."""

from __future__ import annotations

import dataclasses
import os
import pwd
from typing import Literal

from devstack.errors import StartError


@dataclasses.dataclass(frozen=True)
class Identity:
    """`own`: this process's user.

    `user`: that user. `namespace`: this process's user, which the program sees as that user.
    """

    kind: Literal["own", "user", "namespace"]
    uid: int
    gid: int


OWN = Identity("own", os.geteuid(), os.getegid())


def nobody(kind: Literal["user", "namespace"]) -> Identity:
    """Returns the user without rights, by this system's numbers."""
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise StartError("PostgreSQL does not run as root, and there is no user nobody: set DATABASE_URL") from None
    return Identity(kind, entry.pw_uid, entry.pw_gid)
