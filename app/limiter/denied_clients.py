"""Which clients were denied most in the last hour, on all nodes.

Redis knows clients only by a keyed hash, so their names are kept apart: each worker counts its denials in a bounded
sketch and adds them every few seconds to one bounded sorted set per tenant and five minutes, which expires after an
hour. In it a name is encrypted under the secret that all nodes share through the database and Redis never sees: readers
of Redis learn how often somebody was denied, not who.

Bounds: a count is never too high. A worker's part of it, in each flush, is too low by at most one part in COUNTED + 1
of all its denials since the last flush; a set forgets beyond its KEPT greatest. A worker that ends takes its last
seconds along. At about 100 bytes a name that is 250 KB for a tenant of whose clients thousands are denied.
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

COUNTED = 200  # clients and rules, by a worker between two flushes
KEPT = 200  # in Redis, of a tenant and BUCKET_SECONDS
SHOWN = 100
BUCKET_SECONDS, BUCKETS = 300, 12


class DeniedClient(NamedTuple):
    """`denied`: how many checks of this client by this rule, at least. `rule_id` 0 is the built-in default."""

    client_id: str
    rule_id: int
    denied: int


class DeniedClients:
    """Belongs to one worker. No check should wait for `store`'s link; `clock` is Unix time in seconds."""

    def __init__(self, *, store: CommandSender, rules: RuleSource, clock: Callable[[], float]) -> None:
        self._store = store
        self._rules = rules
        self._clock = clock
        self._denied = HeavyHitters[tuple[int, int, str]](COUNTED)

    def denied(self, tenant_id: int, client_id: str, rule: Rule) -> None:
        """Count a denial. In memory alone: for the hot path."""
        self._denied.add((tenant_id, rule.id, client_id))

    def flush(self) -> None:
        """Add what was counted to Redis. Where Redis does not take it, it is lost: denials are counted, not billed."""
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
        """The tenant's clients and rules with the most denials, at most SHOWN. Raises StoreError.

        `contains`: only clients with this text in their id.
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
        """Where Redis keeps the tenant's last hour; nowhere while no rules are known."""
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
    """Names as Redis has them: AES-SIV (RFC 5297), by which the same name under the same secret is the same bytes, as a
    sorted set needs. But for its length, nothing shows.
    """

    def __init__(self, secret: bytes) -> None:
        self._cipher = AESSIV(blake2b(key=secret, digest_size=64, person=b"limited").digest())

    def sealed(self, rule_id: int, client_id: str) -> bytes:
        return self._cipher.encrypt(b"%d:%b" % (rule_id, client_id.encode()), None)

    def opened(self, member: bytes) -> tuple[int, str] | None:
        """Rule and client again; None where another secret, or an earlier release, sealed them."""
        try:
            name = self._cipher.decrypt(member, None)
        except InvalidTag:
            return None
        rule_id, _, client_id = name.decode().partition(":")
        return int(rule_id), client_id
