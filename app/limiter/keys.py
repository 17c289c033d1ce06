"""The only file that spells a Redis key.

`rl:{<hash of tenant><hash of tenant and client>}:<rule>:<limit><algorithm and format>`, for example
`rl:{q7Zk0aDAGm3bDk2c7Zs9Xy}:12:1T`. The braces make all keys of one client live in one slot of a Redis Cluster, so that
one script may touch them. About 31 bytes in all.

Both hashes are keyed with a secret that all nodes of a deployment share: no caller can name another's key, steer slots,
or be read from Redis, and two deployments on one Redis share no key. That of the tenant, 36 bits in base64, is the same
in all its keys, so that they can be found. Should two tenants have the same (1 in 1,400 where there are 10,000), then
deleting one lets the clients of the other begin anew. That of the client, 96 bits, is over the tenant's number, a colon
and the client id; a number holds no colon, so no two pairs of tenant and client are spelled the same.

`rl:{…}:Q:<request id>` is an answer kept for a minute (`S` of a shadow rule), `rl:{…}:L:12:1T:<nonce>` a lease of the
counters that it names.

`rl:{limited:<hash of tenant>}:<five minutes>` counts the denials of a tenant's clients. `rl:{in-use-by}` names the
deployment that looked last, and `rl:{mark:<deployment>}` tells this Redis from another. The part of a client is 22
characters of base64, in which neither `:` nor `-` occurs: none of its keys can be one of these, or of the health check.
"""

from __future__ import annotations

from binascii import b2a_base64, crc_hqx
from collections.abc import Callable, Iterable
from hashlib import blake2b
from itertools import count

from app.rules.rule import Rule

# Names the algorithm and the format of its state: a new format gets a new letter, so that old and new nodes that run
# side by side never read each other's state.
FORMATS = {
    "token_bucket": b"T",
    "fixed_window": b"F",
    "sliding_window": b"W",
    "sliding_window_counter": b"C",
    "gcra": b"G",
}


TENANT_LENGTH, HASH_LENGTH = 6, 16
CLIENT_LENGTH = len("rl:{") + TENANT_LENGTH + HASH_LENGTH + len("}")
HEALTH = b"rl:{health----------------}"  # the client that only /health asks about
# A hash costs a microsecond and most checks are of few clients, so hashes are remembered. Callers choose how many
# clients there are and how long their ids: bytes are bounded. They suffice for 64,000 ids of 40 letters.
KNOWN_BYTES = 16 * 1024 * 1024
CLIENT_BYTES = 220  # of one, beside its id: the hash, and its part of a dictionary that has just grown
_TO_URL, _FROM_URL = bytes.maketrans(b"+/", b"-_"), bytes.maketrans(b"-_", b"+/")
NEW_CLIENTS = "\n"  # in place of a client id, which has no control characters: all new clients of a tenant


IN_USE_BY = b"rl:{in-use-by}"
SLOTS = 16_384  # of a cluster


def slot(key: bytes) -> int:
    """Where a cluster keeps the key: by what is in its braces (CRC-16/XMODEM, as the cluster specification has it)."""
    return crc_hqx(key[4 : key.index(b"}")], 0) % SLOTS


def health(mine: Callable[[int], bool]) -> bytes:
    """Like HEALTH, in one of the slots that are `mine`; there must be one."""
    names = (b"rl:{health-%015d}" % number for number in count())
    return next(name for name in names if mine(slot(name)))


class Keyspace:
    """Spells the part of keys that is the client's, under one secret (bytes, at most 64)."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        # With the key absorbed once; a copy of it costs less than a new hash.
        self._hash = blake2b(digest_size=12, key=secret)
        self._tenants: dict[int, bytes] = {}
        self._known: dict[int, dict[str, bytes]] = {}  # by tenant and client
        self._room = KNOWN_BYTES

    def client(self, tenant_id: int, client_id: str) -> bytes:
        """What all keys of this client begin with, CLIENT_LENGTH bytes: 22 characters in braces."""
        try:
            return self._known[tenant_id][client_id]
        except KeyError:
            return self._learnt(tenant_id, client_id)

    def _learnt(self, tenant_id: int, client_id: str) -> bytes:
        if self._room < 0:
            self._known, self._room = {}, KNOWN_BYTES
        self._room -= CLIENT_BYTES + len(client_id) * (1 if client_id.isascii() else 4)
        client = self._known.setdefault(tenant_id, {})[client_id] = self._hashed(tenant_id, client_id)
        return client

    def _hashed(self, tenant_id: int, client_id: str) -> bytes:
        digest = self._hash.copy()
        digest.update(f"{tenant_id}:{client_id}".encode())
        return b"rl:{%b%b}" % (self._tenant(tenant_id), b2a_base64(digest.digest())[:HASH_LENGTH])

    def named(self, tenant_id: int, public: str) -> bytes:
        """The client's part of keys again, of its `public_part`; of the tenant that names it and no other."""
        return b"rl:{%b%b}" % (self._tenant(tenant_id), public.encode().translate(_FROM_URL))

    def of_tenant(self, tenant_id: int) -> bytes:
        """The glob that all keys of the tenant's clients match, and no other."""
        return b"rl:{%b%b}:*" % (self._tenant(tenant_id), b"?" * HASH_LENGTH)

    def denials(self, tenant_id: int, bucket: int) -> bytes:
        """The key of the tenant's most denied clients in one stretch of time; all of a tenant are in one slot."""
        return b"rl:{limited:%b}:%d" % (self._hash_of(tenant_id), bucket)

    @property
    def deployment(self) -> bytes:
        """Tells deployments apart, and nothing else: 16 hexadecimal digits."""
        return blake2b(digest_size=8, key=self.secret, person=b"deployment").hexdigest().encode()

    @property
    def mark(self) -> bytes:
        """The key by which nodes of this deployment see whether they use the same Redis."""
        return b"rl:{mark:%b}" % self.deployment

    def _tenant(self, tenant_id: int) -> bytes:
        tenant = self._tenants.get(tenant_id)
        if tenant is None:
            tenant = self._tenants[tenant_id] = self._hash_of(tenant_id)[:TENANT_LENGTH]
        return tenant

    def _hash_of(self, tenant_id: int) -> bytes:
        """96 bits, that no two tenants have in common."""
        digest = blake2b(b"%d" % tenant_id, digest_size=12, key=self.secret, person=b"tenant").digest()
        return b2a_base64(digest)[:-1]


def answer_name(request_id: str, *, shadow: bool, whose: bytes = b"") -> bytes:
    """What follows the client's part in the key of an answer kept under a request id (ASCII).

    `whose`: the part of the client who asked, where the key's is not his alone.
    """
    return b":%b:%b%b" % (b"S" if shadow else b"Q", request_id.encode(), whose[4:-1])


def lease_name(counters: Iterable[bytes], nonce: str) -> bytes:
    """What follows the client's part in the key of a lease (a nonce in ASCII) of these counters.

    It names them, so that a lease of a limit that has since begun a new counter is not found.
    """
    return b":L%b:%b" % (b"".join(counters), nonce.encode())


def public_part(client: bytes) -> str:
    """The hash in a client's part of keys, as a URL may have it."""
    return client[len("rl:{") + TENANT_LENGTH : -1].translate(_TO_URL).decode()


def meaning(limit_key: str, cost: int) -> bytes:
    """What check a request id stands for, in 16 characters: another key or cost under the same id is a conflict."""
    return blake2b(b"%d:%b" % (cost, limit_key.encode()), digest_size=8).hexdigest().encode()


def counter_names(rule: Rule) -> tuple[bytes, ...]:
    """What follows the client's part: one name for each limit of the rule, in their order."""
    return tuple(b":%d:%d%b" % (rule.id, limit.counter, FORMATS[limit.algorithm or ""]) for limit in rule.limits)
