"""The head of a request as it arrives: bounded, and given to the parser in few pieces however small its packets are.

gunicorn's parser copies and scans the whole head with each piece. In 1-byte packets that would be quadratic.
"""

from __future__ import annotations

import re

from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine

MAX_HEAD = 16 * 1024  # bytes, request line included; as Traefik's
# Bytes of the longest useful line: the longest client_id and limit_key in a query, 12 bytes per character.
MAX_LINE = 4800
MAX_FIELDS = 50
MAX_FIELD = 4096  # bytes of one field

END = b"\r\n\r\n"
BARE_LF = re.compile(rb"(?<!\r)\n")  # the parser refuses a head with one even before its end


def end_of_head(data: bytes | bytearray, start: int = 0) -> int:
    """The offset of the end of the head that begins `data`, searched from `start`; -1 if it is not complete.

    An empty line at the very beginning does not end a head.
    """
    end = data.find(END, max(start - len(END) + 1, 1))
    return end if end < 0 else end + len(END)


class Head:
    """Takes bytes with `add`. `due` returns those that the parser should get by now."""

    __slots__ = ("_bytes", "_given", "_searched")

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._given = 0  # bytes that the parser has
        self._searched = 0  # bytes in which no end was found

    def add(self, data: bytes) -> None:
        self._bytes += data

    def due(self) -> bytes:
        """The next piece for the parser: the first line, so that it can refuse it at once, then all the rest.

        Empty while more bytes are needed. Bytes after the head come with its last piece. Raises gunicorn's
        ParseException where the head is too large.
        """
        data, start = self._bytes, self._searched
        self._searched = len(data)
        end = end_of_head(data, start)
        if (len(data) if end < 0 else end) > MAX_HEAD:
            raise LimitRequestHeaders("") if b"\n" in data[:MAX_HEAD] else LimitRequestLine(len(data), MAX_LINE)
        # An empty line (its LF is the second byte) may come before the first one.
        line_is_due = not self._given and (len(data) > MAX_LINE + len(END) or data.find(b"\n", max(start, 2)) > 0)
        if end < 0 and not line_is_due and not BARE_LF.search(data, start):
            return b""
        given, self._given = self._given, len(data)
        return bytes(data[given:])
