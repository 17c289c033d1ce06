"""A cluster that a network can part: every member speaks from an address of its own, and is reached through proxies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.proxy import Proxy
from tests.support.topologies import ClusterGroup, eventually

NETWORK = "127.0.1"  # of the members, from which nodes and tests do not come


class PartedCluster(ClusterGroup):
    """Ports are those that members announce: of the proxies in front of them."""

    def __init__(self, directory: Path, sockets: Path, running: ExitStack) -> None:
        self._doors: dict[int, list[Proxy]] = {}
        self._sources: dict[int, str] = {}
        super().__init__(directory, sockets, running)

    @contextmanager
    def cut_off(self, port: int) -> Iterator[None]:
        """Nothing passes between this member and the others; nodes reach all of them."""
        own = self._sources[port]
        others = frozenset(self._sources.values()) - {own}
        for member, doors in self._doors.items():
            for door in doors:
                door.cut_off = others if member == port else frozenset({own})
        yield
        for doors in self._doors.values():
            for door in doors:
                door.heal()

    def _start_member(self, epoch: int) -> int:
        own = super()._start_member(epoch)
        doors = [self._running.enter_context(Proxy(port)) for port in (own, self._buses[own])]
        announced, bus = (door.port for door in doors)
        source = f"{NETWORK}.{epoch}"
        for setting, value in (
            ("cluster-announce-port", announced),
            ("cluster-announce-bus-port", bus),
            ("cluster-announce-ip", "127.0.0.1"),
            ("bind-source-addr", source),
        ):
            self.ask(own, "CONFIG", "SET", setting, value)
        self.servers[announced], self._buses[announced] = self.servers.pop(own), bus
        self._doors[announced], self._sources[announced] = doors, source
        eventually(lambda: self.ask(announced, "PING") == "PONG")
        return announced
