"""Cluster maps as the servers report them, and the choice between several.

Addresses can be reassigned to other servers, and REDIS_URL may be wrong. A server whose map contains none of the known
member ids belongs to another cluster.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

import gevent
from redis.connection import AbstractConnection
from redis.exceptions import RedisError

from app.limiter.redis.endpoint import Address, RedisEndpoint

SEVERAL = "REDIS_URL names servers of different clusters: checks go to that of %s, not to that of %s"

log = logging.getLogger(__name__)

Ranges = list[Any]  # of CLUSTER SLOTS: first slot, last slot, its primary, then its replicas
Asked = Ranges | Exception


def told_by(connection: AbstractConnection) -> Ranges:
    """Read the map over this connection. Raises RedisError."""
    connection.send_command("CLUSTER", "SLOTS")
    told: Ranges = connection.read_response()
    return told


def ids_in(told: Ranges) -> set[bytes]:
    """Return the member ids of a map. Raises ValueError, TypeError or LookupError if it is malformed."""
    return {member[2] for _, _, *members in told for member in members}


def is_foreign(told: Ranges, members: Collection[bytes]) -> bool:
    """Whether the map belongs to another cluster than these members. A map without slots belongs to none."""
    ids = ids_in(told)
    return bool(ids and members) and ids.isdisjoint(members)


def ask_for_maps(endpoint: RedisEndpoint, seconds: float, *, patiently: bool) -> tuple[dict[Address, Ranges], str]:
    """Return the map of each server of the URL, each read over a new connection, and the last failure.

    After `seconds`, servers without an answer are skipped if another one has answered, unless `patiently`.
    """
    asking = {address: gevent.spawn(_asked, endpoint, address) for address in endpoint.addresses}
    gevent.wait(list(asking.values()), timeout=None if patiently else seconds)
    if not any(isinstance(asked.value, list) for asked in asking.values()):
        gevent.wait(list(asking.values()))
    gevent.killall(list(asking.values()), block=False)
    answers = {address: asked.value for address, asked in asking.items() if asked.value is not None}
    told = {address: answer for address, answer in answers.items() if isinstance(answer, list)}
    failures = [f"{address} ({answer})" for address, answer in answers.items() if address not in told]
    return told, failures[-1] if failures else ""


def believed(told: Mapping[Address, Ranges], members: Collection[bytes], asked: int) -> Address | None:
    """Return the address whose map to use; None if no map can be trusted.

    A map of these `members` is preferred. If no server has one, and more than half of all `asked` servers share another
    cluster, the cluster was set up anew. While no members are known, the map that most servers agree with is used.
    """
    alike = {one: [other for other in told if ids_in(told[one]) & ids_in(told[other])] for one in told}
    ours = [address for address in told if not is_foreign(told[address], members)]
    chosen = max(ours or told, key=lambda address: len(alike[address]), default=None)
    if chosen is None or (not ours and 2 * len(alike[chosen]) <= asked):
        return None
    others = [str(address) for address in told if address not in alike[chosen]]
    if others:
        log.warning(SEVERAL, chosen, ", ".join(others))
    return chosen


def _asked(endpoint: RedisEndpoint, address: Address) -> Asked:
    try:
        connection = endpoint.connect(address)
        try:
            told = told_by(connection)
        finally:
            connection.disconnect()
        return told if ids_in(told) else ConnectionError("it knows of no slots")
    except (RedisError, ValueError, TypeError, LookupError) as error:  # apart from the first: a malformed map
        return error
