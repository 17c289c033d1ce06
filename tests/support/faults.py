"""The fault matrix, for its rows: tests/support/matrix.py says how one is written."""

from __future__ import annotations

from tests.support.matrix import FAULTS, Figures

__all__ = ["ALL", "Figures"]

ALL = FAULTS.whole
