"""The clients with the most denials in the last hour, on all nodes.

Redis knows clients only by a keyed hash, so their names are kept separately. Each worker counts its denials in a
bounded sketch. Every few seconds it adds them to a bounded sorted set per tenant and five minutes, which expires after
an hour. A name in it is encrypted under a secret that the nodes share through the database and Redis never sees.
Readers of Redis learn how often clients were denied, but not which clients.

Bounds: a count is never too high. In each flush, a worker's part is too low by at most 1 / (COUNTED + 1) of all its
denials since the last flush. A set drops all but its KEPT greatest. A worker that ends loses its last seconds. At about
100 bytes a name, a tenant with thousands of denied clients needs 250 KB.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable
from hashlib import blake2b
from itertools import islice
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from app.limiter.errors import StoreError, StoreFault
from app.limiter.keys import Keyspace
from app.limiter.store import CommandSender, RuleSource
from app.observability.heavy_hitters import HeavyHitters
from app.rules.rule import Rule

log = logging.getLogger(__name__)

COUNTED = 200  # pairs of client and rule, per worker and flush
KEPT = 200  # in Redis, per tenant and BUCKET_SECONDS
SHOWN = 100
BUCKET_SECONDS, BUCKETS = 300, 12


class DeniedClient(NamedTuple):
    """`denied`: the least number of denials of this client by this rule. `rule_id` 0 is the built-in default."""

    client_id: str
    rule_id: int
    denied: int


class DeniedClients:
    """Belongs to one worker. `store` uses a connection that no check waits for; `clock` is Unix time in seconds."""

    def __init__(self, *, store: CommandSender, rules: RuleSource, clock: Callable[[], float]) -> None:
        self._store = store
        self._rules = rules
        self._clock = clock
        self._denied = HeavyHitters[tuple[int, int, str]](COUNTED)

    def denied(self, tenant_id: int, client_id: str, rule: Rule) -> None:
        """Count a denial, in memory only: for the hot path."""
        self._denied.add((tenant_id, rule.id, client_id))

    def flush(self) -> None:
        """Add the counts to Redis.

        If Redis does not take them they are lost, because denials are statistics, not bills.
        """
        counts, book = self._denied.drain(), self._rules.book
        if not counts or book is None:
            return
        tenants: defaultdict[int, dict[bytes, int]] = defaultdict(dict)
        keyspace, names = Keyspace(book.ruleset_id.key_secret), _Names(book.ruleset_id.key_secret)
        for (tenant_id, rule_id, client_id), count in counts.items():
            tenants[tenant_id][names.sealed(rule_id, client_id)] = count
        try:
            for tenant_id, members in tenants.items():
                self._store.send(_added(keyspace.denials(tenant_id, self._bucket()), members), "limited")
        except StoreError as error:
            log.debug("denials of the last seconds are not counted: %s", error)

    def most(self, tenant_id: int, contains: str = "") -> list[DeniedClient]:
        """Return the tenant's pairs of client and rule with the most denials, at most SHOWN. Raises StoreError.

        `contains` selects clients with this text in their id.
        """
        book = self._rules.book
        if book is None:
            return []
        self.flush()
        counts = Counter[bytes]()
        questions = [(b"ZRANGE", key, b"0", b"-1", b"WITHSCORES") for key in self.keys(tenant_id)]
        for members in self._store.send(questions, "limited"):
            try:
                counts.update({member: int(score) for member, score in zip(members[::2], members[1::2], strict=True)})
            except (TypeError, ValueError):
                raise StoreFault("the answer is no list of members and scores") from None
        names = _Names(book.ruleset_id.key_secret)
        opened = ((names.opened(member), count) for member, count in counts.most_common())
        found = (
            DeniedClient(name[1], name[0], count) for name, count in opened if name is not None and contains in name[1]
        )
        return list(islice(found, SHOWN))

    def keys(self, tenant_id: int) -> list[bytes]:
        """Return the Redis keys of the tenant's last hour; none while no rules are known."""
        book, newest = self._rules.book, self._bucket()
        if book is None:
            return []
        keyspace = Keyspace(book.ruleset_id.key_secret)
        return [keyspace.denials(tenant_id, bucket) for bucket in range(newest - BUCKETS, newest + 1)]

    def _bucket(self) -> int:
        return int(self._clock()) // BUCKET_SECONDS


def _added(key: bytes, members: dict[bytes, int]) -> list[tuple[bytes, ...]]:
    return [
        *((b"ZINCRBY", key, b"%d" % count, member) for member, count in members.items()),
        (b"ZREMRANGEBYRANK", key, b"0", b"%d" % (-KEPT - 1)),
        (b"EXPIRE", key, b"%d" % ((BUCKETS + 1) * BUCKET_SECONDS)),
    ]


class _Names:
    """Encrypts names for Redis with AES-SIV (RFC 5297).

    The same name under the same secret gives the same bytes, as a sorted set needs. Only the name's length shows.
    """

    def __init__(self, secret: bytes) -> None:
        self._cipher = AESSIV(blake2b(key=secret, digest_size=64, person=b"limited").digest())

    def sealed(self, rule_id: int, client_id: str) -> bytes:
        return self._cipher.encrypt(b"%d:%b" % (rule_id, client_id.encode()), None)

    def opened(self, member: bytes) -> tuple[int, str] | None:
        """Return rule and client; None if another secret or an earlier release encrypted them."""
        try:
            name = self._cipher.decrypt(member, None)
        except InvalidTag:
            return None
        rule_id, _, client_id = name.decode().partition(":")
        return int(rule_id), client_id
