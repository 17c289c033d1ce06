"""How many connections one address may have at a time, to one worker."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from ipaddress import IPv4Address, ip_address, ip_network

IPV6_PREFIX = 64  # bits; one subscriber has at least so many addresses to choose from


class Addresses:
    """Counts connections. Loopback and `trusted` (networks separated by commas) may have any number; 0: so may all."""

    def __init__(self, *, most: int, trusted: str) -> None:
        self.most = most
        self._trusted = [ip_network(network.strip()) for network in trusted.split(",") if network.strip()]
        self._counts: Counter[bytes] = Counter()
        self._counted = lru_cache(maxsize=1024)(self._counted_as)

    def __len__(self) -> int:
        """How many addresses have connections that are counted."""
        return len(self._counts)

    def enter(self, address: str) -> bool:
        """Count one more connection; False, and it is not counted, where that is one too many."""
        counted = self._counted(address)
        if counted is None:
            return True
        if self._counts[counted] >= self.most:
            return False
        self._counts[counted] += 1
        return True

    def leave(self, address: str) -> None:
        """A connection that was counted has ended."""
        counted = self._counted(address)
        if counted is None:
            return
        self._counts[counted] -= 1
        if not self._counts[counted]:
            del self._counts[counted]

    def _counted_as(self, text: str) -> bytes | None:
        """An IPv4 address, an IPv6 network; None where nothing bounds it."""
        if not self.most:
            return None
        address = ip_address(text.partition("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        if address.is_loopback or any(address in network for network in self._trusted):
            return None
        return address.packed if isinstance(address, IPv4Address) else address.packed[: IPV6_PREFIX // 8]
