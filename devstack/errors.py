"""What can go wrong while servers are started."""

from __future__ import annotations


class StartError(Exception):
    """Something could not be started or kept running. The message is one line: what, and what to do about it."""
