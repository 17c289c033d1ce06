"""Bounds the connections that one address may have to one worker at a time."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from ipaddress import IPv4Address, ip_address, ip_network

IPV6_PREFIX = 64  # bits; a subscriber has at least a /64 to choose addresses from


class ConnectionsByAddress:
    """Counts connections up to `most` per address. 0: no bound. Loopback and `trusted` (networks separated by commas)
    have no bound either.
    """

    def __init__(self, *, most: int, trusted: str) -> None:
        self.most = most
        self._trusted = [ip_network(network.strip()) for network in trusted.split(",") if network.strip()]
        self._counts: Counter[bytes] = Counter()
        self._counted = lru_cache(maxsize=1024)(self._counted_as)

    def __len__(self) -> int:
        """The number of addresses with counted connections."""
        return len(self._counts)

    def enter(self, address: str) -> bool:
        """Count one more connection. Returns False, without counting it, if that is one too many."""
        counted = self._counted(address)
        if counted is None:
            return True
        if self._counts[counted] >= self.most:
            return False
        self._counts[counted] += 1
        return True

    def leave(self, address: str) -> None:
        """End a connection for which `enter` returned True."""
        counted = self._counted(address)
        if counted is None:
            return
        self._counts[counted] -= 1
        if not self._counts[counted]:
            del self._counts[counted]

    def _counted_as(self, text: str) -> bytes | None:
        """The packed IPv4 address or IPv6 network to count by; None if it has no bound."""
        if not self.most:
            return None
        address = ip_address(text.partition("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        if address.is_loopback or any(address in network for network in self._trusted):
            return None
        return address.packed if isinstance(address, IPv4Address) else address.packed[: IPV6_PREFIX // 8]
