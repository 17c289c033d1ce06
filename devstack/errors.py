"""Errors while servers are started."""

from __future__ import annotations


class StartError(Exception):
    """A server could not be started or kept running. The message is one line: the problem and its remedy."""
