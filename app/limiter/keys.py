"""The only file that spells a Redis key.

`rl:{<hash of tenant><hash of tenant and client>}:<rule>:<limit><algorithm and format>`, for example
`rl:{q7Zk0aDAGm3bDk2c7Zs9Xy}:12:1T`. The braces place all keys of one client in one slot of a Redis Cluster, so that one
script may use them. A key has about 31 bytes.

Both hashes are keyed with a secret that all nodes of a deployment share. So no caller can produce another client's key
or choose a slot, and readers of Redis learn no client id. Two deployments on one Redis share no key.

The tenant's hash, 36 bits in base64, is the same in all its keys, so that they can be found. Two tenants may have the
same one (1 in 1,400 with 10,000 tenants). Deleting one of them then resets the counters of the other's clients.

The client's hash, 96 bits, covers the tenant's number, a colon and the client id. A number contains no colon, so the
hashed text is unique for each pair of tenant and client.

Counters that many clients share are keys of a client that cannot exist: `shared` below names it.

`rl:{…}:Q:<request id>` is an answer kept for a minute (`S` of a shadow rule; layers other than default have the layer
at the end). `rl:{…}:U:Q:<request id>` marks the id as charged, but not yet in all slots. `rl:{…}:L:12:1T:<nonce>` is a
lease of the counters that it names.

`rl:{limited:<hash of tenant>}:<five minutes>` counts the denials of a tenant's clients. `rl:{in-use-by}` names the
deployment that last inspected this Redis, and `rl:{mark:<deployment>}` tells this Redis from others. A client's part is
22 characters of base64 without `:` and `-`. So its keys differ from all of these and from the health check's.
"""

from __future__ import annotations

from binascii import b2a_base64, crc_hqx
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from itertools import count

from app.rules.rule import DEFAULT_LAYER, Rule

# Letters for the algorithm and the format of its state. A new format gets a new letter, so that old and new nodes that
# run side by side never read each other's state.
FORMATS = {
    "token_bucket": b"T",
    "fixed_window": b"F",
    "sliding_window": b"W",
    "sliding_window_counter": b"C",
    "gcra": b"G",
}


TENANT_LENGTH, HASH_LENGTH = 6, 16
CLIENT_LENGTH = len("rl:{") + TENANT_LENGTH + HASH_LENGTH + len("}")
HEALTH = b"rl:{health----------------}"  # the client that only /health checks
# Remembered hashes: a hash takes a microsecond, and most checks come from few clients. Callers choose the number and
# length of client ids, so bytes are bounded. This is enough for 64,000 ids of 40 letters.
KNOWN_BYTES = 16 * 1024 * 1024
CLIENT_BYTES = 220  # per client, without its id: the hash, and its share of a dictionary that has just grown
_TO_URL, _FROM_URL = bytes.maketrans(b"+/", b"-_"), bytes.maketrans(b"-_", b"+/")
NEW_CLIENTS = "\n"  # replaces the client id for all new clients of a tenant; real ids have no control characters


IN_USE_BY = b"rl:{in-use-by}"
CLUSTER_SLOTS = 16_384  # of a cluster


def slot(key: bytes) -> int:
    """Return the cluster slot of the key: CRC-16/XMODEM of the text in its braces, as the specification says."""
    return crc_hqx(key[4 : key.index(b"}")], 0) % CLUSTER_SLOTS


def health_key(mine: Callable[[int], bool]) -> bytes:
    """Return a key like HEALTH in one of the slots for which `mine` is true; there must be one."""
    names = (b"rl:{health-%015d}" % number for number in count())
    return next(name for name in names if mine(slot(name)))


class Keyspace:
    """Spells the client's part of keys, under one secret (bytes, at most 64)."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        # The key is absorbed once: copying the state costs less than a new hash.
        self._hash = blake2b(digest_size=12, key=secret)
        self._tenants: dict[int, bytes] = {}
        self._known: dict[int, dict[str, bytes]] = {}  # tenant id -> client id -> key part
        self._room = KNOWN_BYTES

    def client(self, tenant_id: int, client_id: str) -> bytes:
        """Return the prefix of all keys of this client, CLIENT_LENGTH bytes: 22 characters in braces."""
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

    def shared(self, tenant_id: int, rule: Rule, group: str | None) -> bytes:
        """Return the prefix of a shared rule's counters: of this value of its group, or of the client rule itself.

        Its form is a client's. Real client ids have no control characters.
        """
        return self.client(tenant_id, f"\nr{rule.id}" if rule.group is None else f"\ng{group}")

    def named(self, tenant_id: int, public: str) -> bytes:
        """Rebuild the client's key part from its `public_part`, only ever within the given tenant."""
        return b"rl:{%b%b}" % (self._tenant(tenant_id), public.encode().translate(_FROM_URL))

    def of_tenant(self, tenant_id: int) -> bytes:
        """Return a glob that matches exactly the keys of the tenant's clients."""
        return b"rl:{%b%b}:*" % (self._tenant(tenant_id), b"?" * HASH_LENGTH)

    def denials(self, tenant_id: int, bucket: int) -> bytes:
        """Return the key of the tenant's most denied clients in one period; all keys of a tenant are in one slot."""
        return b"rl:{limited:%b}:%d" % (self._hash_of(tenant_id), bucket)

    @property
    def deployment(self) -> bytes:
        """Identifies the deployment and reveals nothing else: 16 hexadecimal digits."""
        return blake2b(digest_size=8, key=self.secret, person=b"deployment").hexdigest().encode()

    @property
    def mark(self) -> bytes:
        """The key by which nodes of this deployment detect whether they use the same Redis."""
        return b"rl:{mark:%b}" % self.deployment

    def _tenant(self, tenant_id: int) -> bytes:
        tenant = self._tenants.get(tenant_id)
        if tenant is None:
            tenant = self._tenants[tenant_id] = self._hash_of(tenant_id)[:TENANT_LENGTH]
        return tenant

    def _hash_of(self, tenant_id: int) -> bytes:
        """Return 96 bits, unique to the tenant."""
        digest = blake2b(b"%d" % tenant_id, digest_size=12, key=self.secret, person=b"tenant").digest()
        return b2a_base64(digest)[:-1]


def answer_name(request_id: str, *, shadow: bool, client: bytes = b"", layer: str = DEFAULT_LAYER) -> bytes:
    """Return the key suffix of an answer stored under a request id (ASCII).

    `client`: the key part of the client that asked, if the key's own client is shared. Each layer has a shadow rule.
    """
    name = b":%b:%b%b" % (b"S" if shadow else b"Q", request_id.encode(), client[4:-1])
    return b"%b:%b" % (name, layer.encode()) if shadow and layer != DEFAULT_LAYER else name


def mark_name(answer: bytes) -> bytes:
    """Return the key suffix of the mark of an unfinished request id. `answer`: the suffix of its answer."""
    return b":U" + answer


def lease_name(counters: Iterable[bytes], nonce: str, others: Iterable[bytes] = ()) -> bytes:
    """Return the key suffix of a lease of these counters (the nonce in ASCII).

    The suffix names the counters, so a lease is not found once a limit has begun a new counter. `others`: the prefixes
    of the rules after the first. So no changed id returns permits to counters of another owner.
    """
    return b":L%b%b:%b" % (b"".join(counters), b"".join(b":" + owner[4:-1] for owner in others), nonce.encode())


def public_part(client: bytes) -> str:
    """Return the hash in a client's key part, in a form for URLs."""
    return client[len("rl:{") + TENANT_LENGTH : -1].translate(_TO_URL).decode()


def meaning(limit_key: str, cost: int, groups: Sequence[str] = ()) -> bytes:
    """Return 16 characters that identify the check of a request id: another key, cost or groups under the same id are a
    conflict.
    """
    text = "\n".join([f"{cost}:{limit_key}", *groups])  # neither keys nor groups have control characters
    return blake2b(text.encode(), digest_size=8).hexdigest().encode()


def counter_names(rule: Rule) -> tuple[bytes, ...]:
    """Return the key suffixes of the rule's counters, one per limit, in their order."""
    return tuple(b":%d:%d%b" % (rule.id, limit.counter, FORMATS[limit.algorithm or ""]) for limit in rule.limits)
