"""Lines for whoever started this."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def say(line: str) -> None:
    """One line of news."""
    _write(sys.stdout, line)


def complain(line: str) -> None:
    """One line about what went wrong."""
    _write(sys.stderr, line)


def _write(stream: TextIO, line: str) -> None:
    try:
        print(line, file=stream, flush=True)
    except OSError:  # a closed terminal or pipe must not keep us from stopping in order
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
