"""The files in which prometheus_client keeps the values of a worker, and how a scrape reads those of all workers.

A file holds the values of one kind of metric in one worker: `counter_0.db` those of the counters in the worker at
place 0, `gauge_livemax_1.db` those of gauges that a scrape merges by `livemax` in the worker at place 1.
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

FIRST_BYTES = 1 << 16  # of a new file: some 300 series
SPARE_BYTES = 16  # at the end, where the values of all series without room go
LOST = "the disk has no room for metrics (%s): new series of %s are lost until this worker ends; checks are decided"

_integer, _value = Struct("i"), Struct("dd")
log = logging.getLogger(__name__)

# Set by gunicorn.conf.py: prometheus_client keeps values in files only there.
directory: Path | None = None


class MetricFile(mmap_dict.MmapedDict):
    """A worker's values of one kind of metric.

    prometheus_client maps a file whose blocks are not allocated: a worker that writes to it dies by SIGBUS where the
    disk is full. Here blocks are allocated first. Where there are none, a new series is lost and the log says so once.
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
        size = len(key.encode()) + 32  # with its length, padding, value and time
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
        # Later, because the lock of all values is held here and a log may wait.
        gevent.spawn(log.error, LOST, error.strerror, os.path.basename(self._fname))


def entries(path: Path) -> Iterator[tuple[str, float, float]]:
    """Key, value and time of every series of a file; nothing where the file has just been removed."""
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
    """Let the file have so many bytes at least, on disk. Raises OSError."""
    with open(filename, "ab") as file:
        if sys.platform == "darwin":  # has no such call: a file of a developer's machine stays sparse
            file.truncate(max(size, os.fstat(file.fileno()).st_size))
        else:
            os.posix_fallocate(file.fileno(), 0, size)


values.MmapedDict = MetricFile  # type: ignore[attr-defined] # the name by which prometheus_client opens them
