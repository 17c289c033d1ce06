"""Precedence of two rules' clients, and whether some client belongs to both.

A rule is for one client, a network, a glob or `*`. Between globs and networks the answer is approximate: it may
wrongly be yes.
"""

from __future__ import annotations

from app.rules.matching.glob import Glob, glob_of
from app.rules.matching.networks import ADDRESS, IPV4_BITS, Network, lies_in, network_of

NO_PART = 1 << 16  # more than any octet or group
ONE_CLIENT, NETWORK, GLOB, EVERYONE = range(4)


def is_wide(client_id: str) -> bool:
    """Whether a rule for it is for more than one client."""
    return _rank(client_id)[0] != ONE_CLIENT


def comes_first(client_id: str, other: str) -> bool:
    """Whether a rule for `client_id` precedes one for `other`, and some client belongs to both."""
    return _rank(client_id) < _rank(other) and _meet(client_id, other)


def covers(wide: str, client_id: str) -> bool:
    """Whether a rule for `wide` is also for every client of `client_id`, which precedes it.

    False if this is not decided here: `client_id` is a glob, or a network below a glob other than `*`.
    """
    if "*" in client_id or ("*" in wide and wide != "*" and network_of(client_id) is not None):
        return False
    return comes_first(client_id, wide)


def head_of(network: Network) -> str:
    """Return the common prefix of the ids of all clients in the network, in the usual spelling."""
    size, sign = (8, ".") if network.bits == IPV4_BITS else (16, ":")
    whole = network.prefix // size
    parts = [network.shortened(size * (place + 1)).number & ((1 << size) - 1) for place in range(whole)]
    if sign == ":" and 0 in parts:  # several zeros would be written ::
        parts = parts[: parts.index(0)]
    head = ADDRESS + "".join(f"{part:{'d' if sign == '.' else 'x'}}{sign}" for part in parts)
    return head.removesuffix(sign) if len(parts) * size == network.bits else head


def _rank(client_id: str) -> tuple[int, int, str]:
    """Return a sort key; the smaller one takes precedence."""
    if client_id == "*":
        return EVERYONE, 0, ""
    if "*" in client_id:
        return GLOB, -len(client_id.replace("*", "")), client_id
    network = network_of(client_id)
    return (ONE_CLIENT, 0, client_id) if network is None else (NETWORK, -network.prefix, client_id)


def _meet(one: str, two: str) -> bool:
    if one == two or "*" in (one, two):
        return True
    if "*" in one and "*" in two:
        return _globs_meet(glob_of(one), glob_of(two))
    if "*" in one or "*" in two:
        glob, other = (one, two) if "*" in one else (two, one)
        network = network_of(other)
        return glob_of(glob).matches(other) if network is None else _glob_meets(glob_of(glob), network)
    pairs = (network_of(one), lies_in(two)), (network_of(two), lies_in(one))
    return any(network is not None and other is not None and network.holds(other) for network, other in pairs)


def _globs_meet(one: Glob, two: Glob) -> bool:
    """Whether a text matches both. The parts between head and tail can always follow one another."""
    heads, tails = sorted((one.head, two.head), key=len), sorted((one.tail, two.tail), key=len)
    return heads[1].startswith(heads[0]) and tails[1].endswith(tails[0])


def _glob_meets(glob: Glob, network: Network) -> bool:
    """Whether the glob may match a client in the network, judged by their heads in whole octets or groups."""
    heads = sorted((glob.head, head_of(network)), key=len)
    if not heads[1].startswith(heads[0]) or not glob.head.startswith(ADDRESS):
        return ADDRESS.startswith(glob.head)
    size, sign, foreign = (8, ".", ":") if network.bits == IPV4_BITS else (16, ":", ".")
    head = glob.head[len(ADDRESS) :]
    *whole, _ = head.split(sign)
    if "" in whole:  # :: stands for an unknown number of groups
        whole = whole[: whole.index("")]
    values = [_value(part, 10 if sign == "." else 16) for part in whole]
    if foreign in head or len(values) * size > network.bits or any(value >= 1 << size for value in values):
        return False
    number = 0
    for value in values:
        number = number << size | value
    begun = Network(network.bits, size * len(values), number)
    return begun.holds(network) or network.holds(begun)


def _value(part: str, base: int) -> int:
    """Return the number, or one too large for any part of an address."""
    try:
        return int(part, base) if part.isalnum() else NO_PART
    except ValueError:
        return NO_PART
