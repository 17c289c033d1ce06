"""Turns a proxy's question about its client into a check, and the decision into a status that proxies understand.

Flask's views (routes.py) use it, and the WSGI door (wsgi_door.py) for questions in their usual form.
"""

from __future__ import annotations

import json
import logging
import re
from functools import lru_cache
from typing import Any

from msgspec.structs import replace

from app.api.auth import Authenticator
from app.api.check.encoding import JSON_HEAD, Encoder
from app.api.check.handler import Reply, Request
from app.api.forward_auth.identity import ClientIdentifier, Header
from app.api.problems import PROBLEM_TYPE, Problem
from app.api.schemas import MAX_LIMIT_KEY
from app.limiter.decision import Decision
from app.limiter.store import RuleSource
from app.rules.rule import DEFAULT_TENANT, DEFAULT_TENANT_ID

log = logging.getLogger(__name__)

PROBLEM = f"Content-Type: {PROBLEM_TYPE}\r\n".encode()
NO_TENANT = "no tenant has the name in AUTHORIZE_TENANT: /v1/authorize refuses every request"
MAX_SIMPLE = len("limit_key=&cost=") + MAX_LIMIT_KEY + 9  # no simple query is longer
SIMPLE = re.compile(r"(?:limit_key=([A-Za-z0-9._-]{1,128}))?(?:(?:^|&)cost=([1-9][0-9]{0,8}))?")


class Authorizer:
    """Makes checks from a proxy's questions. The rules of one tenant decide them: `tenant` is its name.

    A key of another tenant is refused. Otherwise its holder would be counted by that tenant's rules and escape these
    limits.
    """

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        identifier: ClientIdentifier,
        rules: RuleSource,
        tenant: str,
        encoder: Encoder,
    ) -> None:
        self._encoder = encoder
        self._authenticator = authenticator
        self._identifier = identifier
        self._rules = rules
        self._tenant = tenant
        self._missing = False  # whether the tenant is missing, so that the log says it once

    def with_check(self, request: Request, limit_key: str, cost: int, *, peer: str, header: Header) -> Request:
        """`request` with the check to decide, and with the form of answer that proxies understand.

        Raises Problem 400, 401, 403, 422 or 503.
        """
        principal = self._authenticator.principal(request.credentials, "check")
        tenant_id = self._tenant_id()
        if principal.tenant_id != tenant_id:
            if not principal.anonymous:
                detail = "the API key belongs to another tenant than the one whose limits hold here"
                raise Problem(403, detail, kind="key-of-another-tenant")
            principal = replace(principal, tenant_id=tenant_id)
        client_id = self._identifier.client_id(peer, header, None if principal.anonymous else principal)
        check: dict[str, Any] = {"client_id": client_id, "limit_key": limit_key, "cost": cost}
        if self._identifier.group_headers:
            check["groups"] = self._identifier.groups(peer, header)
        return request._replace(known=(principal, check), form=self._reply)

    def _reply(self, decision: Decision) -> Reply:
        """A denied check has status 200, which a proxy would let pass; so a denial is a 429 here."""
        head = self._encoder.head(decision)
        if decision.allowed:
            return Reply(200, head, self._encoder.body(decision).encode())
        document = Problem(429, _reason(decision), kind="denied").document() | self._encoder.members(decision)
        return Reply(429, head.replace(JSON_HEAD, PROBLEM, 1), json.dumps(document, separators=(",", ":")).encode())

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


def simple_query(query: str) -> tuple[str, int] | None:
    """limit_key and cost of a query in its usual form; None: Flask reads or refuses it."""
    return _known_query(query) if len(query) <= MAX_SIMPLE else None


# A proxy's route repeats the same query. An entry takes up to 600 bytes, so all of them 0.6 MB.
@lru_cache(maxsize=1024)
def _known_query(query: str) -> tuple[str, int] | None:
    found = SIMPLE.fullmatch(query)
    return (found[1] or "global", int(found[2] or 1)) if found else None


def _reason(decision: Decision) -> str:
    wait_us = decision.retry_after_us
    return "waiting does not help" if wait_us is None else f"ask again in {-(-wait_us // 1_000) / 1000:g} seconds"
