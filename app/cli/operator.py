"""The operator of a command, as the audit names it."""

from __future__ import annotations

import os
import pwd

import click

MAX_OPERATOR = 64


def operator(said: str | None) -> str:
    """`cli:` and the name given, else the name of the shell's user, which in a container is the same for everybody."""
    name = said or _user()
    if len(name) > MAX_OPERATOR or not name.isprintable():
        raise click.BadParameter(f"a name has 1 to {MAX_OPERATOR} printable characters")
    return f"cli:{name}"


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # containers may run under a number without a user
        return f"uid {os.getuid()}"
