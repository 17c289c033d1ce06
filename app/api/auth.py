"""Authentication: keys, scopes, and the statement that each route makes about them. Deny by default."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from flask import Flask, current_app, g, request
from flask_smorest import Blueprint

from app.api.problems import Problem
from app.api.services import services
from app.limiter.store import RuleSource
from app.observability.logs import correlation_id
from app.rules.api_key import SCOPES, ApiKey, id_of
from app.rules.rule import DEFAULT_TENANT_ID
from app.rules.sql.history import Author

PUBLIC = "public"
IN_HANDLER = "in handler"
SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}

# Stand-in for the comparison where no key has the id that was sent.
NO_KEY = ApiKey(id="", tenant_id=0, name="", digest=bytes(32), scopes=frozenset())

View = TypeVar("View", bound=Callable[..., Any])


class Unauthorized(Problem):
    """401 with the challenge that HTTP requires."""

    def __init__(self, detail: str, kind: str) -> None:
        super().__init__(401, detail, kind=kind, headers={"WWW-Authenticate": "Bearer"})


class Principal(msgspec.Struct, frozen=True):
    """The caller that a key identifies. The tenant of a request comes from here and from nowhere else.

    `key`: the stored key. It is None for the operator's bootstrap key, and for a caller without a key (`anonymous`).
    """

    name: str
    tenant_id: int
    scopes: frozenset[str]
    key: ApiKey | None = None
    anonymous: bool = False

    @property
    def key_id(self) -> str | None:
        return self.key.id if self.key else None

    @property
    def owner(self) -> str:
        """The name by which forward authentication counts the key."""
        return (self.key and self.key.owner) or self.name


class Credentials(msgspec.Struct, frozen=True):
    """The headers of a request that can carry a key."""

    authorization: str | None = None
    api_key: str | None = None

    @property
    def key(self) -> str | None:
        """The key that was sent; None for a header of another scheme. Raises Problem 401 for two different keys."""
        if self.authorization is None:
            return self.api_key
        scheme, _, token = self.authorization.partition(" ")
        if scheme.lower() != "bearer":
            return self.api_key
        key = token.strip()
        if self.api_key not in (None, key):  # only one of them would be verified
            raise Unauthorized("two different API keys were sent: send one", "two-keys")
        return key


class Authenticator:
    """Verifies the bootstrap key and, through the current rule book, every API key.

    `open_checks`: a check without a key belongs to the default tenant. `clock` is Unix time in seconds. `used` is
    called with the id of every stored key that was verified.
    """

    def __init__(
        self,
        *,
        bootstrap_key: str | None,
        open_checks: bool,
        rules: RuleSource,
        used: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._bootstrap_key = bootstrap_key.encode() if bootstrap_key else None
        self._bootstrap = Principal("bootstrap", DEFAULT_TENANT_ID, frozenset(SCOPES))
        anonymous = Principal("anonymous", DEFAULT_TENANT_ID, frozenset({"check"}), anonymous=True)
        self._anonymous = anonymous if open_checks else None
        self._rules = rules
        self._used = used
        self._clock = clock

    def principal(self, credentials: Credentials, scope: str) -> Principal:
        """The caller, entitled to `scope`. Raises Problem 401 or 403. A key that was sent is always verified."""
        key = credentials.key
        found = self._anonymous if key is None and scope == "check" else self._known(key or "")
        if found is None:
            raise (
                Unauthorized("an API key is required", "key-missing")
                if key is None
                else Unauthorized("the API key is not known", "key-unknown")
            )
        if scope not in found.scopes:
            raise Problem(403, f"the API key lacks the scope {scope}", kind="scope-missing")
        return found

    def _known(self, key: str) -> Principal | None:
        """The comparisons are the same for every key, so their duration does not reveal which keys exist."""
        expected = self._bootstrap_key
        same = hmac.compare_digest(key.encode(), expected or b"")
        stored = self._stored(key)
        return self._bootstrap if same and expected else stored

    def _stored(self, key: str) -> Principal | None:
        book = self._rules.book
        if book is None:
            return None
        stored = book.keys.get(id_of(key), NO_KEY)
        same = hmac.compare_digest(book.key_hash.digest(key), stored.digest)
        if not same or stored is NO_KEY or (stored.expires_at is not None and self._clock() >= stored.expires_at):
            return None
        self._used(stored.id)
        return Principal(stored.actor, stored.tenant_id, stored.scopes, stored)


def credentials_of_request() -> Credentials:
    return Credentials(request.headers.get("Authorization"), request.headers.get("X-API-Key"))


def author() -> Author:
    """The author of the change that this request makes."""
    return Author(g.principal.name, correlation_id.get())


def requires(scope: str) -> Callable[[View], View]:
    """State that a route needs a key with this scope. The view finds the principal in `g.principal`.

    Where checks need no key, an anonymous caller has the scope `check`.
    """
    with_key: list[dict[str, list[str]]] = [{name: []} for name in SECURITY_SCHEMES]
    documented = Blueprint.doc(security=[{}, *with_key] if scope == "check" else with_key)
    return lambda view: _states(scope)(documented(view))


def public(view: View) -> View:
    """State that a route needs no key."""
    return _states(PUBLIC)(view)


def authenticated_in_handler(view: View) -> View:
    """State that the view passes the credentials on to the check handler, which verifies them."""
    documented: View = Blueprint.doc(security=[{}, *({name: []} for name in SECURITY_SCHEMES)])(view)
    return _states(IN_HANDLER)(documented)


def _states(authentication: str) -> Callable[[View], View]:
    def mark(view: View) -> View:
        view.authentication = authentication  # type: ignore[attr-defined]
        return view

    return mark


def stated(app: Flask, endpoint: str | None) -> str | None:
    """The statement of the route's view; None if it makes none."""
    return getattr(app.view_functions.get(endpoint or ""), "authentication", None)


def init_app(app: Flask) -> None:
    """Check every request against its route's statement; a route without a statement is refused."""

    @app.before_request
    def authenticate() -> None:
        if request.endpoint is None:
            return  # no such route: 404 and 405 need no key
        authentication = stated(current_app, request.endpoint)
        if authentication is None:
            raise Problem(403, "this route does not state its authentication")
        if authentication not in (PUBLIC, IN_HANDLER):
            authenticator: Authenticator = services().authenticator
            g.principal = authenticator.principal(credentials_of_request(), authentication)
