"""Memory that the processes of a node share, without a file."""

from __future__ import annotations

import mmap


def shared_memory(size: int) -> memoryview:
    """So many bytes, all zero, shared with the processes that this one forks from here on. Unused ones cost nothing.

    An aligned word of it (`cast`) is read and written whole, so readers need no lock. It is freed with the last view.
    """
    return memoryview(mmap.mmap(-1, size))
