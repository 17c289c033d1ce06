"""What a proxy asks about its client, as a check; and the decision, as a status that proxies understand.

For the doors: Flask's (authorize.py), and the short one (shortcut.py) for questions as they normally come.
"""

from __future__ import annotations

import json
import logging
import re
from functools import lru_cache
from typing import Any

from app.api.auth import Authenticator, RuleSource
from app.api.callers import Callers, Header
from app.api.encoding import JSON
from app.api.handler import Reply, Request
from app.api.problems import CONTENT_TYPE, Problem
from app.api.schemas import MAX_LIMIT_KEY
from app.rules.rule import DEFAULT_TENANT, DEFAULT_TENANT_ID

log = logging.getLogger(__name__)

PROBLEM = f"Content-Type: {CONTENT_TYPE}\r\n".encode()
NO_TENANT = "no tenant has the name in AUTHORIZE_TENANT: /v1/authorize refuses every request"
DENIED = b'{"allowed":false'  # how the encoder's answers begin
MAX_PLAIN = len("limit_key=&cost=") + MAX_LIMIT_KEY + 9  # nothing longer is plain
PLAIN = re.compile(r"(?:limit_key=([A-Za-z0-9._-]{1,128}))?(?:(?:^|&)cost=([1-9][0-9]{0,8}))?")


class Authorizer:
    """Makes checks of what proxies ask. They are decided by the rules of one tenant: `tenant` is its name.

    A key of another tenant is refused: by its own tenant's rules its holder would pass the limits of this one.
    """

    def __init__(self, *, authenticator: Authenticator, callers: Callers, rules: RuleSource, tenant: str) -> None:
        self._authenticator = authenticator
        self._callers = callers
        self._rules = rules
        self._tenant = tenant
        self._missing = False  # the log says so once

    def check(self, request: Request, limit_key: str, cost: int, *, peer: str, header: Header) -> Request:
        """The check to be handled, with everything of `request` but its body. Raises Problem 400, 401, 403 or 503."""
        principal = self._authenticator.principal(request.credentials, "check")
        tenant_id = self._tenant_id()
        key = None if request.credentials.key is None else principal
        if key is not None and key.tenant_id != tenant_id:
            detail = "the API key belongs to another tenant than the one whose limits hold here"
            raise Problem(403, detail, kind="key-of-another-tenant")
        check = {"client_id": self._callers.client_id(peer, header, key), "limit_key": limit_key, "cost": cost}
        return request._replace(raw_body=json.dumps(check, ensure_ascii=False).encode(), tenant_id=tenant_id)

    def _tenant_id(self) -> int:
        if self._tenant == DEFAULT_TENANT:
            return DEFAULT_TENANT_ID
        book = self._rules.book
        found = None if book is None else book.tenants.get(self._tenant)
        if found is None:
            if not self._missing:
                log.warning(NO_TENANT)
            self._missing = True
            raise Problem(503, NO_TENANT, kind="no-tenant", headers={"Retry-After": "1"})
        self._missing = False
        return found


def plain_question(query: str) -> tuple[str, int] | None:
    """limit_key and cost of a query without anything unusual; None: for Flask to read, or to refuse."""
    return _known_question(query) if len(query) <= MAX_PLAIN else None


# A route asks the same each time. An entry takes up to 600 bytes, so all of them 0.6 MB.
@lru_cache(maxsize=1024)
def _known_question(query: str) -> tuple[str, int] | None:
    found = PLAIN.fullmatch(query)
    return (found[1] or "global", int(found[2] or 1)) if found else None


def for_proxies(reply: Reply) -> Reply:
    """A denial is an answer to a check; a proxy needs a status that it does not let pass."""
    if reply.status != 200 or not reply.body.startswith(DENIED):
        return reply
    decision = json.loads(reply.body)
    document = Problem(429, _reason(decision), kind="denied").document() | decision
    return Reply(429, reply.head.replace(JSON, PROBLEM, 1), json.dumps(document, separators=(",", ":")).encode())


def _reason(decision: dict[str, Any]) -> str:
    wait_ms = decision["retry_after_ms"]
    return "waiting does not help" if wait_ms is None else f"ask again in {wait_ms / 1000:g} seconds"
