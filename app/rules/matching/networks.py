"""Networks as clients of rules: `ip:10.0.0.0/8` is for every `ip:` client in that network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, AF_INET6, inet_pton
from typing import NamedTuple

from app.rules.matching.glob import Coverage
from app.rules.rule import Rule
from app.rules.sync.yielding import Pace

ADDRESS = "ip:"  # prefix of client ids that are addresses
SUBSCRIBER_BITS = 64  # of an IPv6 address: a subscriber has at least a /64, and is counted by it
IPV4_BITS, IPV6_BITS = 32, 128
MAPPED_BITS, MAPPED = 96, 0xFFFF  # ::ffff:0:0/96, the IPv4 addresses in IPv6
ALLOWED = (
    f"A client that begins with {ADDRESS} and has a / is a network of IPv4 or IPv6, such as"
    f" {ADDRESS}10.0.0.0/8 or {ADDRESS}2001:db8::/32."
)


class Network(NamedTuple):
    """`number`: the first `prefix` of the `bits` (32 or 128) of its addresses. An address is a network of one."""

    bits: int
    prefix: int
    number: int

    def holds(self, other: Network) -> bool:
        """Whether the other network lies in this one, or is the same."""
        shift = other.prefix - self.prefix
        return self.bits == other.bits and shift >= 0 and other.number >> shift == self.number

    def shortened(self, prefix: int) -> Network:
        """Return the network of that shorter prefix that contains this one."""
        return Network(self.bits, prefix, self.number >> (self.prefix - prefix))

    def text(self) -> str:
        """Return the network as the client of a rule."""
        of = IPv4Address if self.bits == IPV4_BITS else IPv6Address
        return f"{ADDRESS}{of(self.number << (self.bits - self.prefix))}/{self.prefix}"


def lies_in(client_id: str) -> Network | None:
    """Return the address or network that a client id names, in any spelling; None if it names none.

    An IPv4 address in IPv6 (`::ffff:10.1.2.3`) becomes that IPv4 address. Zones (`%eth0`) and host bits are ignored.
    """
    if not client_id.startswith(ADDRESS):
        return None
    address, slash, length = client_id[len(ADDRESS) :].partition("/")
    is_ipv6 = ":" in address
    if is_ipv6:
        address = address.partition("%")[0]
    try:
        packed = inet_pton(AF_INET6 if is_ipv6 else AF_INET, address)
    except (OSError, ValueError):
        return None
    bits, number = 8 * len(packed), int.from_bytes(packed, "big")
    prefix = _prefix(length, bits) if slash else bits
    if prefix is None:
        return None
    if is_ipv6 and prefix >= MAPPED_BITS and number >> IPV4_BITS == MAPPED:
        bits, prefix, number = IPV4_BITS, prefix - MAPPED_BITS, number & 0xFFFFFFFF
    return Network(bits, prefix, number >> (bits - prefix))


def network_of(client_id: str) -> Network | None:
    """Return the network of a rule's client; None for an id, a glob, or a network in another spelling than ours.

    The API refuses such a spelling. A stored one is for the client of exactly that id.
    """
    return _network_of(client_id) if may_be_network(client_id) else None


def may_be_network(client_id: str) -> bool:
    """Whether `network_of` must parse the id, which takes some microseconds."""
    return client_id.startswith(ADDRESS) and "/" in client_id


def problem_of(client_id: str) -> str | None:
    """Return the fault of a rule's client that looks like a network; None if there is none."""
    if not may_be_network(client_id) or "*" in client_id or network_of(client_id):
        return None
    network = lies_in(client_id)
    return ALLOWED if network is None else f"This network is written {network.text()}."


def around(client_id: str) -> list[str]:
    """Return all networks that contain the client, an id or a network, including itself, as clients of rules."""
    network = lies_in(client_id)
    return [network.shortened(prefix).text() for prefix in range(network.prefix + 1)] if network else []


class NetworkIndex:
    """The networks of one tenant. A search makes one look-up for each prefix length in use."""

    def __init__(self, networks: Mapping[str, Coverage], previous: NetworkIndex | None, pace: Pace) -> None:
        """`previous`: the index of an earlier book, which knows most of the networks."""
        by_prefix: defaultdict[tuple[int, int], dict[int, Coverage]] = defaultdict(dict)
        known = dict(pace(previous._each())) if previous else {}
        self.others: list[Rule] = []  # rules in another spelling, each for the client of that exact id
        for client_id, coverage in pace(networks.items()):
            if network := known.get(client_id) or network_of(client_id):
                by_prefix[network.bits, network.prefix][network.number] = coverage
            else:
                self.others += coverage.rules()
        self._longest_first: dict[int, list[tuple[int, dict[int, Coverage]]]] = {IPV4_BITS: [], IPV6_BITS: []}
        for (bits, prefix), coverages in sorted(by_prefix.items(), reverse=True, key=lambda item: item[0]):
            self._longest_first[bits].append((prefix, coverages))

    @property
    def tried(self) -> int:
        """The most prefix lengths to try for one client."""
        return max(map(len, self._longest_first.values()))

    def _each(self) -> Iterator[tuple[str, Network]]:
        for bits, by_prefix in self._longest_first.items():
            for prefix, coverages in by_prefix:
                for number, coverage in coverages.items():
                    yield coverage.rules()[0].client_id, Network(bits, prefix, number)

    def match(self, client_id: str, limit_key: str) -> Rule | None:
        """Return the rule of the longest prefix that contains the client and covers the key."""
        for by_key, any_key in self.matching(client_id):
            rule = by_key.get(limit_key, any_key)
            if rule is not None:
                return rule
        return None

    def matching(self, client_id: str) -> Iterator[Coverage]:
        """Return all networks that contain the client, the longest prefix first."""
        network = lies_in(client_id)
        if network is None:
            return
        bits, longest, number = network
        for prefix, coverages in self._longest_first[bits]:
            if prefix <= longest and (coverage := coverages.get(number >> (longest - prefix))) is not None:
                yield coverage


@lru_cache(maxsize=4096)  # spelling one takes some microseconds
def _network_of(client_id: str) -> Network | None:
    network = lies_in(client_id)
    return network if network is not None and network.text() == client_id else None


def _prefix(text: str, bits: int) -> int | None:
    if not (text.isascii() and text.isdigit() and len(text) <= 3):
        return None
    prefix = int(text)
    return prefix if prefix <= bits and str(prefix) == text else None
