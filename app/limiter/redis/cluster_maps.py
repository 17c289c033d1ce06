"""Maps of a cluster as its servers tell them, and which of several to believe.

Addresses are given to other servers in time, and REDIS_URL may be wrong. A server whose map names none of the members
that are known, by their ids, is of another cluster.
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

Ranges = list[Any]  # of CLUSTER SLOTS: the first slot, the last one, then the primary that has them, and its replicas
Asked = Ranges | Exception


def told_by(connection: AbstractConnection) -> Ranges:
    """Raises RedisError."""
    connection.send_command("CLUSTER", "SLOTS")
    told: Ranges = connection.read_response()
    return told


def ids_in(told: Ranges) -> set[bytes]:
    """Of the members that a map names. Raises ValueError, TypeError or LookupError for what is no map."""
    return {member[2] for _, _, *members in told for member in members}


def is_foreign(told: Ranges, members: Collection[bytes]) -> bool:
    """Whether the map is of another cluster than these members. One without a slot is of none."""
    ids = ids_in(told)
    return bool(ids and members) and ids.isdisjoint(members)


def ask_for_maps(endpoint: RedisEndpoint, seconds: float, *, patiently: bool) -> tuple[dict[Address, Ranges], str]:
    """What each server of the URL tells over a connection of its own, and why the last of the others tells nothing.

    Those that take longer than `seconds` are not waited for where another one has answered, unless `patiently`.
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
    """Whose map to take. Of the cluster of these `members`; where none of it answers and more than half of all that
    were asked are of one other, the cluster was set up anew. Where no members are known: of what most tell."""
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
    except (RedisError, ValueError, TypeError, LookupError) as error:  # all but the first: no map at all
        return error
