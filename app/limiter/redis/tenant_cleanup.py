"""Removes deleted tenants' keys from Redis.

Nothing reads these keys any more, because tenant numbers are never reused, but they would stay until their windows end.
They begin with a hash of the tenant that no other deployment produces. Redis scans all keys for them in steps.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import gevent

from app.limiter.errors import StoreError
from app.limiter.keys import Keyspace
from app.limiter.store import CleanedStore, CommandSender, DenialKeys, RuleSource

log = logging.getLogger(__name__)

# Until then a worker may still decide for the tenant (2 s, by contract), then add up its denials (6 s).
SETTLE_SECONDS = 9.0
# Keys per SCAN step, which takes Redis 0.2 ms, and the pause after it for other clients: 3 s for a million keys.
STEP_KEYS, SCAN_REST_SECONDS = 500, 0.001


class TenantCleanup:
    """`rules` provide the secret under which keys are spelled.

    `settle_seconds`: time after a deletion until no worker of any node writes for the tenant.
    """

    def __init__(
        self,
        *,
        store: CleanedStore,
        rules: RuleSource,
        denied_clients: DenialKeys,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        self._store = store
        self._rules = rules
        self._denied_clients = denied_clients
        self._settle_seconds = settle_seconds

    def forget(self, tenant_id: int) -> int:
        """Wait until no worker writes for the tenant, then delete all its keys in Redis; return how many.

        Raises StoreError; some keys may then be left to expire by themselves.
        """
        gevent.sleep(self._settle_seconds)
        book = self._rules.book
        if book is None:
            return 0
        pattern = Keyspace(book.ruleset_id.key_secret).of_tenant(tenant_id)
        swept = sum(self._sweep(server, pattern) for server in self._store.servers())
        return swept + self._unlink(self._denied_clients.keys(tenant_id))

    def forget_soon(self, tenant_id: int) -> None:
        """Do the same in the background."""
        gevent.spawn(self._forget, tenant_id)

    def _forget(self, tenant_id: int) -> None:
        try:
            log.info("tenant %d was deleted: %d keys in Redis too", tenant_id, self.forget(tenant_id))
        except StoreError as error:
            log.warning("tenant %d was deleted, its counters are left to expire: %s", tenant_id, error)

    def _sweep(self, server: CommandSender, pattern: bytes) -> int:
        """Delete all matching keys of the server; return how many."""
        cursor, deleted = b"0", 0
        while True:
            step = (b"SCAN", cursor, b"MATCH", pattern, b"COUNT", b"%d" % STEP_KEYS)
            [[cursor, keys]] = server.send([step], "sweep")
            deleted += self._unlink(keys) if keys else 0
            if cursor == b"0":
                return deleted
            gevent.sleep(SCAN_REST_SECONDS)

    def _unlink(self, keys: Sequence[bytes]) -> int:
        """Delete the keys; return how many existed."""
        return sum(int(there) for there in self._store.send([(b"UNLINK", key) for key in keys], "sweep"))
