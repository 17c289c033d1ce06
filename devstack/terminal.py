"""Lines for the operator's terminal."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def say(line: str) -> None:
    """Prints one line of news."""
    _write(sys.stdout, line)


def complain(line: str) -> None:
    """Prints one line about a failure."""
    _write(sys.stderr, line)


def _write(stream: TextIO, line: str) -> None:
    try:
        print(line, file=stream, flush=True)
    except OSError:  # a closed terminal or pipe must not prevent an orderly stop
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
