"""Progress of long work, on stderr, so that the output of a command can go elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import click

T = TypeVar("T")

FIRST_SECONDS = 2.0  # shorter work shows none
TERMINAL_SECONDS, LOG_SECONDS = 0.5, 10.0  # between two lines: a terminal shows the last one, a log keeps all
ERASE = "\r\033[K"


class Progress:
    """A pace that never yields, and prints the progress from time to time. `far`: the progress in words; None: in
    seconds.
    """

    def __init__(self, what: str, far: Callable[[], str] | None) -> None:
        self._what = what
        self._began = time.monotonic()
        self._far = far or (lambda: f"{time.monotonic() - self._began:.0f} s")
        self._next = self._began + FIRST_SECONDS
        self._at_terminal = sys.stderr.isatty()

    def __call__(self, items: Iterable[T], /) -> Iterator[T]:
        for item in items:
            yield item
            if time.monotonic() > self._next:
                self._print()

    def end(self) -> None:
        if self._at_terminal:
            click.echo(ERASE, nl=False, err=True)

    def _print(self) -> None:
        text = f"{self._what}: {self._far()}"
        click.echo(ERASE + text if self._at_terminal else text, nl=not self._at_terminal, err=True)
        self._next = time.monotonic() + (TERMINAL_SECONDS if self._at_terminal else LOG_SECONDS)


@contextmanager
def progress(what: str, far: Callable[[], str] | None = None) -> Iterator[Progress]:
    """A pace for the work of this block."""
    pace = Progress(what, far)
    try:
        yield pace
    finally:
        pace.end()
