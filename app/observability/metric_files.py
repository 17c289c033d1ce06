"""The files in which prometheus_client keeps a worker's values, and how a scrape reads those of all workers.

A file holds one kind of metric of one worker. counter_0.db has the counters of the worker at place 0.
gauge_livemax_1.db has the gauges that a scrape merges by `livemax`, of the worker at place 1.
"""

from __future__ import annotations

import logging
import mmap
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import BinaryIO

import gevent
from prometheus_client import mmap_dict, values

FIRST_BYTES = 1 << 16  # initial file size: some 300 series
SPARE_BYTES = 16  # at the end, shared by all series without room
LOST = "the disk has no room for metrics (%s): new series of %s are lost until this worker ends; checks are decided"

_integer, _value = Struct("i"), Struct("dd")
log = logging.getLogger(__name__)

# Set by gunicorn.conf.py; prometheus_client uses files only there.
directory: Path | None = None


class MetricFile(mmap_dict.MmapedDict):
    """One worker's values of one kind of metric.

    prometheus_client maps files without allocating their blocks, so a worker dies by SIGBUS if the disk is full. Here
    blocks are allocated first. If that fails, a new series is lost and the log says so once.
    """

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        self._full = False
        try:
            _allocate(filename, FIRST_BYTES)
            super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]
        except OSError as error:
            self._hold_in_memory(filename, error)
        self._capacity -= SPARE_BYTES

    def _hold_in_memory(self, filename: str, error: OSError) -> None:
        self._f: BinaryIO | None = None  # type: ignore[assignment]
        self._fname, self._used, self._positions = filename, 8, {}
        self._capacity, self._m = FIRST_BYTES, mmap.mmap(-1, FIRST_BYTES)
        self._lose(error)

    def _init_value(self, key: str) -> None:
        size = len(key.encode()) + 32  # key with its length, padding, value and time
        while not self._full and self._used + size > self._capacity:
            self._grow()
        if self._used + size > self._capacity:
            self._positions[key] = self._capacity
        else:
            super()._init_value(key)  # type: ignore[no-untyped-call]

    def _grow(self) -> None:
        size = 2 * (self._capacity + SPARE_BYTES)
        try:
            _allocate(self._fname, size)
            with open(self._fname, "r+b") as file:
                self._m = mmap.mmap(file.fileno(), size)
            self._capacity = size - SPARE_BYTES
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        self._full = True
        # Logged later, because this code holds the lock of all values and logging may wait.
        gevent.spawn(log.error, LOST, error.strerror, os.path.basename(self._fname))


def entries(path: Path) -> Iterator[tuple[str, float, float]]:
    """Return key, value and time of every series of a file; nothing if the file was just removed."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:  # the worker of a live gauge has ended
        return
    used = min(_integer.unpack_from(data)[0], len(data)) if data else 0
    position = 8
    while position < used:
        length = _integer.unpack_from(data, position)[0]
        begin = position + 4
        position = begin + length + 8 - (length + 4) % 8
        value, time = _value.unpack_from(data, position)
        yield data[begin : begin + length].decode(), value, time
        position += 16


def _allocate(filename: str, size: int) -> None:
    """Allocate at least this many bytes on disk. Raises OSError."""
    with open(filename, "ab") as file:
        if sys.platform == "darwin":  # macOS has no such call; files on developers' machines stay sparse
            file.truncate(max(size, os.fstat(file.fileno()).st_size))
        else:
            os.posix_fallocate(file.fileno(), 0, size)


values.MmapedDict = MetricFile  # type: ignore[attr-defined] # the name by which prometheus_client opens them
