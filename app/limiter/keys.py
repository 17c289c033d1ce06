"""The only file that spells a Redis key.

`rl:{<hash of tenant and client>}:<rule>:<limit><algorithm and format>`, for example
`rl:{Jw0nUqGm3bDk2c7Zs9XyRA}:12:1t`. The braces make all keys of one client live in one slot of a Redis Cluster, so that
one script may touch them. The hash is keyed with a secret all nodes share, over the tenant's number, a colon and the
client id: no caller can name another's key, steer slots, or be read from Redis. About 31 bytes in all.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import blake2b

from app.rules.rule import Limit, Rule

# Names the algorithm and the format of its state: a new format gets a new letter, so that old and new nodes that run
# side by side never read each other's state.
FORMATS = {
    "token_bucket": "t",
    "fixed_window": "f",
    "sliding_window": "s",
    "sliding_window_counter": "c",
    "gcra": "g",
}


class Keyspace:
    """Spells keys under one secret (bytes, at most 64)."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret

    def client(self, tenant_id: int, client_id: str) -> str:
        """The part that all keys of this client share: 22 characters in braces."""
        parts = b"%d:%b" % (tenant_id, client_id.encode())
        digest = blake2b(parts, digest_size=16, key=self.secret).digest()
        return "rl:{" + urlsafe_b64encode(digest)[:22].decode() + "}"

    def counters(self, tenant_id: int, client_id: str, rule: Rule) -> tuple[str, ...]:
        """One key for each limit of the rule, in their order. The limits' algorithms are resolved."""
        client = self.client(tenant_id, client_id)
        return tuple(f"{client}:{rule.id}:{counter_name(limit)}" for limit in rule.limits)


def counter_name(limit: Limit) -> str:
    return f"{limit.counter}{FORMATS[limit.algorithm or '']}"
