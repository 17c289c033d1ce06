"""How much of this service's code runs between two chances for other greenlets, counted in lines: no clock is asked."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, Self

from tests.support.node import ROOT

APP = str(ROOT / "app")


class Steps:
    """A pace that counts, inside `with`, how many lines of app/ run between two of its items: `longest` the most.

    Each turn of a comprehension is a line. What C does with a whole collection is none.
    """

    def __init__(self) -> None:
        self.longest, self.where = 0, ""
        self._lines = 0

    def __call__(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            yield item
            self._look()

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        self._lines = 0
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)
        self._look()

    def _look(self) -> None:
        if self._lines > self.longest:
            caller = sys._getframe(2)
            self.longest, self.where = self._lines, f"{caller.f_code.co_filename}:{caller.f_lineno}"
        self._lines = 0

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(APP):
            return None
        self._lines += event == "line"
        return self._trace
