"""API keys: `rl_<id>_<secret>`, shown once, stored as a keyed hash. The id identifies the key, the secret proves it."""

from __future__ import annotations

import hmac
import secrets
import string
from dataclasses import dataclass

SCOPES = ("check", "rules:read", "rules:write", "audit:read", "keys:write", "tenants:write")
PREFIX = "rl_"
ID_LENGTH = 8
ID_ALPHABET = string.ascii_lowercase + string.digits
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A valid API key as workers know it. `digest`: of the whole key; `expires_at`: Unix seconds.

    `owner`: the name under which forward auth counts the key, shared by its rotations and by keys it makes. None: the
    key counts by itself.
    """

    id: str
    tenant_id: int
    name: str
    digest: bytes
    scopes: frozenset[str]
    expires_at: float | None = None
    owner: str | None = None

    @property
    def actor(self) -> str:
        return actor_of(self.name, self.id)


def actor_of(name: str, key_id: str) -> str:
    """Return the name of the key's user in the audit."""
    return f"{name} ({key_id})"


def new_key() -> tuple[str, str]:
    """Return a new id, and the key that begins with it."""
    key_id = "".join(secrets.choice(ID_ALPHABET) for _ in range(ID_LENGTH))
    return key_id, f"{PREFIX}{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}"


def id_of(key: str) -> str:
    """Return the id that a key claims. Malformed text yields an id that no key has."""
    return key[len(PREFIX) : len(PREFIX) + ID_LENGTH]


class KeyHash:
    """HMAC-SHA256 under one secret. A key has 256 random bits, so guessing is hopeless and a fast hash is enough."""

    def __init__(self, secret: bytes) -> None:
        self._keyed = hmac.new(secret, digestmod="sha256")  # copying it costs half of a new one

    def digest(self, key: str) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(key.encode())
        return keyed.digest()
