"""Which clients were denied most in the last hour, on all nodes.

Redis knows clients only by a keyed hash, so their names are kept apart: each worker counts its denials in a bounded
sketch and adds them every few seconds to one bounded sorted set per tenant and five minutes, which expires after an
hour. In it a name is sealed under the secret that all nodes share through the database and Redis never sees: who reads
Redis learns how often somebody was denied, not who.

Bounds: a count is never too high. A worker's part of it, in each flush, is too low by at most one part in COUNTED + 1
of all its denials since the last flush; a set forgets beyond its KEPT greatest. A worker that ends takes its last
seconds along. At about 100 bytes a name that is 250 KB for a tenant of whose clients thousands are denied.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from hashlib import blake2b, shake_256
from itertools import islice
from typing import Any, NamedTuple, Protocol

from app.limiter.errors import StoreError, StoreFault
from app.limiter.keys import Keyspace
from app.observability.heavy_hitters import HeavyHitters
from app.rules.rule import Rule
from app.rules.rule_book import RuleBook

log = logging.getLogger(__name__)

COUNTED = 200  # clients and rules, by a worker between two flushes
KEPT = 200  # in Redis, of a tenant and BUCKET_SECONDS
SHOWN = 100
BUCKET_SECONDS, BUCKETS = 300, 12
SEAL_BYTES = 16


class Limited(NamedTuple):
    """`denied`: how many checks of this client by this rule, at least. `rule_id` 0 is the built-in default."""

    client_id: str
    rule_id: int
    denied: int


class RuleSource(Protocol):
    @property
    def book(self) -> RuleBook | None: ...


class Store(Protocol):
    def send(self, commands: Sequence[tuple[bytes, ...]], operation: str) -> list[Any]: ...


class LimitedClients:
    """Belongs to one worker. No check should wait for `store`'s link; `clock` is Unix time in seconds."""

    def __init__(self, *, store: Store, rules: RuleSource, clock: Callable[[], float]) -> None:
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
        keyspace = Keyspace(book.edition.key_secret)
        for (tenant_id, rule_id, client_id), count in counts.items():
            tenants[tenant_id][_sealed(book.edition.key_secret, rule_id, client_id)] = count
        try:
            for tenant_id, members in tenants.items():
                self._store.send(_added(keyspace.denials(tenant_id, self._bucket()), members), "limited")
        except StoreError as error:
            log.debug("denials of the last seconds are not counted: %s", error)

    def most(self, tenant_id: int, contains: str = "") -> list[Limited]:
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
        opened = ((_opened(book.edition.key_secret, member), count) for member, count in counts.most_common())
        found = (Limited(name[1], name[0], count) for name, count in opened if name is not None and contains in name[1])
        return list(islice(found, SHOWN))

    def keys(self, tenant_id: int) -> list[bytes]:
        """Where Redis keeps the tenant's last hour; nowhere while no rules are known."""
        book, newest = self._rules.book, self._bucket()
        if book is None:
            return []
        keyspace = Keyspace(book.edition.key_secret)
        return [keyspace.denials(tenant_id, bucket) for bucket in range(newest - BUCKETS, newest + 1)]

    def _bucket(self) -> int:
        return int(self._clock()) // BUCKET_SECONDS


def _added(key: bytes, members: dict[bytes, int]) -> list[tuple[bytes, ...]]:
    return [
        *((b"ZINCRBY", key, b"%d" % count, member) for member, count in members.items()),
        (b"ZREMRANGEBYRANK", key, b"0", b"%d" % (-KEPT - 1)),
        (b"EXPIRE", key, b"%d" % ((BUCKETS + 1) * BUCKET_SECONDS)),
    ]


def _sealed(secret: bytes, rule_id: int, client_id: str) -> bytes:
    """The same bytes for the same name under the same secret, as a sorted set needs; but for its length, nothing shows.

    A synthetic-IV construction (RFC 5297 is its pattern): a keyed hash of the name, which is also the key of the stream
    that hides it.
    """
    name = b"%d:%b" % (rule_id, client_id.encode())
    seal = blake2b(name, key=secret, digest_size=SEAL_BYTES, person=b"limited").digest()
    return seal + _hidden(secret, seal, name)


def _opened(secret: bytes, member: bytes) -> tuple[int, str] | None:
    """The name again; None where another secret, or nobody we know, sealed it."""
    seal, hidden = member[:SEAL_BYTES], member[SEAL_BYTES:]
    name = _hidden(secret, seal, hidden)
    if blake2b(name, key=secret, digest_size=SEAL_BYTES, person=b"limited").digest() != seal:
        return None
    rule_id, _, client_id = name.decode().partition(":")
    return int(rule_id), client_id


def _hidden(secret: bytes, seal: bytes, text: bytes) -> bytes:
    stream = shake_256(b"limited" + secret + seal).digest(len(text))
    return (int.from_bytes(text) ^ int.from_bytes(stream)).to_bytes(len(text))
