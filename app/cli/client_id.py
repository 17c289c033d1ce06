"""`flask client-id`: the id by which the SDK counts the holder of a secret."""

from __future__ import annotations

import sys
from hashlib import sha256

import click

from app.cli.command import command

DIGITS = 32  # as in sdk/src/ratelimiter_client/identify.py


@command("client-id")
@click.argument("kind", type=click.Choice(["key", "cookie"]))
def client_id(kind: str) -> None:
    """The client id that the SDK makes of an API key or of a cookie's value, which is read from the input, not shown.

    For `flask explain` and the like: the service knows such a client by this digest alone.
    """
    interactive = sys.stdin.isatty()
    secret = (click.prompt(f"The {kind}", hide_input=True, err=True) if interactive else sys.stdin.readline()).strip()
    click.echo(f"{kind}:{sha256(secret.encode()).hexdigest()[:DIGITS]}")
