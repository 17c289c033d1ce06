"""Files of rules that wait for their readers: a reader may take minutes, and the worker holds the file meanwhile."""

from __future__ import annotations

import weakref
from collections import Counter

from flask import Response

from app.api.problems import Problem

BUSY = "too many files of rules wait for their readers: read those that you requested, then try again"


class UnsentFiles:
    """Counts waiting bytes, in total and for each tenant: slow readers of one tenant do not keep others from their
    files.

    A file of any length is accepted while fewer than `most` and `most_of_tenant` bytes wait. Belongs to one worker.
    """

    def __init__(self, most: int, most_of_tenant: int) -> None:
        self._most, self._most_of_tenant = most, most_of_tenant
        self._waiting = Counter[int]()

    def refuse_more(self, tenant_id: int) -> None:
        """Raises Problem 503 where too many bytes wait."""
        if self._waiting[tenant_id] >= self._most_of_tenant or self._waiting.total() >= self._most:
            raise Problem(503, BUSY, kind="busy", headers={"Retry-After": "10"})

    def until_sent(self, tenant_id: int, pieces: list[bytes], content_type: str) -> Response:
        """The response. Its bytes count until it was sent or given up."""
        response, length = Response(pieces, content_type=content_type), sum(map(len, pieces))
        self._waiting[tenant_id] += length
        weakref.finalize(response, self._sent, tenant_id, length)
        return response

    def _sent(self, tenant_id: int, length: int) -> None:
        self._waiting[tenant_id] -= length
        if not self._waiting[tenant_id]:
            del self._waiting[tenant_id]
