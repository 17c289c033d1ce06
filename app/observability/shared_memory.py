"""Memory that the processes of a node share, without a file."""

from __future__ import annotations

import mmap


def shared_memory(size: int) -> memoryview:
    """Return `size` zero bytes, shared with the processes forked from now on. Unused pages cost nothing.

    An aligned word (`cast`) is read and written whole, so readers need no lock. The memory is freed with its last view.
    """
    return memoryview(mmap.mmap(-1, size))
