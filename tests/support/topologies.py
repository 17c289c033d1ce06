"""Valkey as production runs it: a primary with a replica under three sentinels, a cluster of three and three."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import redis

from app.limiter.keys import CLUSTER_SLOTS
from devstack import Valkey
from devstack.processes.supervised import Program
from tests.support.acl import PASSWORD, acl_command
from tests.support.node import free_port
from tests.support.proxy import Proxy

MASTER = "limits"
THIRD = CLUSTER_SLOTS // 3 + 1
DOWN_MS = 500  # of silence, until a primary counts as dead
QUICK = {"repl-diskless-sync-delay": "0"}
CLUSTER_USER = ("+cluster|slots", "+asking")
START_SECONDS = 30
APART = "127.0.0.2"  # another address of this machine


C = TypeVar("C", bound="ClusterGroup")


class Sentinel(Valkey):
    """Watches the primary on `watched`. It writes what it learns into its own configuration."""

    def __init__(self, *, watched: int, announced: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._watched = watched
        self._announced = announced  # the port that others are told of

    def _program(self, output: int, lock: int) -> Program:
        program = super()._program(output, lock)
        names = ("port", "bind", "unixsocket", "dir", "bind-source-addr")
        settings = {name: value for name, value in self._settings().items() if name in names}
        lines = [f"{name} {value}" for name, value in settings.items()]
        lines += [
            f"sentinel monitor {MASTER} 127.0.0.1 {self._watched} 2",
            f"sentinel down-after-milliseconds {MASTER} {DOWN_MS}",
            f"sentinel failover-timeout {MASTER} 3000",
        ]
        if self._announced:
            lines += ["sentinel announce-ip 127.0.0.1", f"sentinel announce-port {self._announced}"]
        configuration = self.data_dir / "sentinel.conf"
        configuration.write_text("\n".join(lines) + "\n")
        return replace(program, argv=(program.argv[0], str(configuration), "--sentinel"))


class Group:
    """Servers that belong together, each on a port of 127.0.0.1."""

    def __init__(self, directory: Path, sockets: Path, running: ExitStack) -> None:
        self._directory, self._sockets, self._running = directory, sockets, running
        self.servers: dict[int, Valkey] = {}
        self._buses: dict[int, int] = {}

    def start(self, **options: str) -> int:
        """The port of one more."""
        port = free_port()
        names = {name.replace("_", "-"): value for name, value in options.items()}
        self._run(port, Valkey(**self._place(port), options=QUICK | names))
        return port

    def watch(self, port: int) -> int:
        """The port of a sentinel from the address APART, which watches what is on this one."""
        own = free_port()
        self._run(own, Sentinel(**self._place(own), watched=port, options={"bind-source-addr": APART}))
        return own

    def users(self, *more: str) -> str:
        """A file in which a restarted server finds the limiter's user again."""
        users = self._directory / "users.acl"
        users.write_text(" ".join(["user", *acl_command(*more)[2:]]) + "\n")
        return str(users)

    def _place(self, port: int) -> dict[str, Any]:
        own = self._sockets / secrets.token_hex(4)
        own.mkdir()
        return {"data_dir": self._directory / str(port), "socket_dir": own, "port": port, "durable": False}

    def _run(self, port: int, server: Valkey) -> None:
        self.servers[port] = self._running.enter_context(server)

    def socket(self, port: int) -> Path:
        return self.servers[port].socket_dir / "valkey.sock"

    def ask(self, port: int, *words: Any) -> Any:
        """What a server answers to a command, as it came."""
        with redis.Redis(port=port, protocol=2, decode_responses=True) as client:
            client.response_callbacks.clear()
            return client.execute_command(*words)


class SentinelGroup(Group):
    """`apart`: replica and sentinels speak from the address APART, and proxies tell them from nodes: one `between` the
    primary and everybody, and `doors` of the sentinels."""

    def __init__(self, directory: Path, sockets: Path, running: ExitStack, *, apart: bool = False) -> None:
        super().__init__(directory, sockets, running)
        users = self.users("+role")
        source = {"bind-source-addr": APART, "replica-announce-ip": "127.0.0.1"} if apart else {}
        self.primary = self.start(aclfile=users)
        self.between = running.enter_context(Proxy(self.socket(self.primary)))
        named = self.between.port if apart else self.primary
        self.replica = self.start(aclfile=users, replicaof=f"127.0.0.1 {named}", **source)
        self.sentinels = [free_port() for _ in range(3)]
        self.doors = [running.enter_context(Proxy(port)) for port in self.sentinels] if apart else []
        announced = [door.port for door in self.doors] or [None] * 3
        for port, door in zip(self.sentinels, announced, strict=True):
            self._run(port, Sentinel(**self._place(port), watched=named, announced=door, options=source))
        eventually(lambda: all(self._knows_all(sentinel) for sentinel in self.sentinels))

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        return f"redis+sentinel://ratelimiter:{PASSWORD}@{hosts}/{MASTER}"

    def named_by(self, sentinel: int) -> int:
        """The port of the primary, as this sentinel has it."""
        return int(self.ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)[1])

    def _knows_all(self, sentinel: int) -> bool:
        known = self.ask(sentinel, "SENTINEL", "MASTER", MASTER)
        fields = dict(zip(known[::2], known[1::2], strict=True))
        return (int(fields["num-slaves"]), int(fields["num-other-sentinels"])) == (1, 2)


class ClusterGroup(Group):
    """Each of `primaries` (ports) has a third of the slots and the replica at the same place of `replicas`."""

    def __init__(self, directory: Path, sockets: Path, running: ExitStack) -> None:
        super().__init__(directory, sockets, running)
        ports = [self._start_member(epoch) for epoch in range(1, 7)]
        self.primaries, self.replicas = ports[:3], ports[3:]
        for port in ports[1:]:
            self.ask(port, "CLUSTER", "MEET", "127.0.0.1", ports[0], self._buses[ports[0]])
        for port, first in zip(self.primaries, range(0, CLUSTER_SLOTS, THIRD), strict=True):
            self.ask(port, "CLUSTER", "ADDSLOTSRANGE", first, min(first + THIRD, CLUSTER_SLOTS) - 1)
        eventually(lambda: all(len(self.nodes(port)) == 6 for port in ports))
        for port, primary in zip(self.replicas, self.primaries, strict=True):
            self.ask(port, "CLUSTER", "REPLICATE", self.ask(primary, "CLUSTER", "MYID"))
        eventually(lambda: all("cluster_state:ok" in self.ask(port, "CLUSTER", "INFO") for port in ports))
        eventually(lambda: all("link_status:up" in self.ask(port, "INFO", "replication") for port in self.replicas))
        eventually(lambda: all(self._sees_replicas(port) for port in ports))

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.primaries)
        return f"redis+cluster://ratelimiter:{PASSWORD}@{hosts}"

    def nodes(self, port: int) -> list[str]:
        """Of the whole cluster, a line each, as this one sees it."""
        return str(self.ask(port, "CLUSTER", "NODES")).splitlines()

    def owner(self, slot: int, seen_by: int | None = None) -> int:
        """The port of the primary that has the slot, as this one sees it."""
        for first, last, (_, port, *_), *_ in self.ask(seen_by or self.primaries[-1], "CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return int(port)
        raise AssertionError(f"nobody has slot {slot}")

    def move(self, slot: int, target: int, pause: Callable[[], object] = lambda: None) -> int:
        """Move a slot as a resharding tool does, key by key; how many keys it had. `pause`s before and after that."""
        source, moved = self.owner(slot), 0
        names = {port: self.ask(port, "CLUSTER", "MYID") for port in (source, target)}
        self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", names[source])
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", names[target])
        pause()
        while keys := self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 1000):
            self.ask(source, "MIGRATE", "127.0.0.1", target, "", 0, 5000, "KEYS", *keys)
            moved += len(keys)
        pause()
        for port in (target, source, *(set(self.primaries) - names.keys())):
            self.ask(port, "CLUSTER", "SETSLOT", slot, "NODE", names[target])
        return moved

    def join(self) -> int:
        """The port of one more primary, without slots and without a replica."""
        port = self._start_member(7)
        self.ask(port, "CLUSTER", "MEET", "127.0.0.1", self.primaries[0], self._buses[self.primaries[0]])
        known = [*self.primaries, port]
        eventually(lambda: all(sum("connected" in line for line in self.nodes(each)) == 7 for each in known))
        eventually(lambda: "cluster_state:ok" in self.ask(port, "CLUSTER", "INFO"))
        return port

    @contextmanager
    def stranger(self, port: int) -> Iterator[None]:
        """A cluster of its own, of one server, at the address of a member that is away."""
        place = self._place(port) | {"data_dir": self._directory / f"{port} of a stranger"}
        options = {"cluster-enabled": "yes", "cluster-port": str(free_port()), "aclfile": self.users(*CLUSTER_USER)}
        with Valkey(**place, options=QUICK | options):
            self.ask(port, "CLUSTER", "ADDSLOTSRANGE", 0, CLUSTER_SLOTS - 1)
            eventually(lambda: "cluster_state:ok" in self.ask(port, "CLUSTER", "INFO"))
            yield

    def _start_member(self, epoch: int) -> int:
        bus = free_port()
        port = self.start(
            cluster_enabled="yes",
            cluster_port=str(bus),  # else ten thousand above the other
            cluster_node_timeout=str(2 * DOWN_MS),
            cluster_require_full_coverage="no",
            aclfile=self.users(*CLUSTER_USER),
        )
        self._buses[port] = bus
        self.ask(port, "CLUSTER", "SET-CONFIG-EPOCH", epoch)
        return port

    def _sees_replicas(self, port: int) -> bool:
        return sum(" slave " in line or ",slave " in line for line in self.nodes(port)) == 3


def eventually(holds: Callable[[], bool], seconds: float = START_SECONDS) -> None:
    """Returns when the condition holds; fails the test when it does not come true."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "the servers did not come to agree"
        time.sleep(0.05)


@contextmanager
def sentinel_group(directory: Path, sockets: Path, *, apart: bool = False) -> Iterator[SentinelGroup]:
    with ExitStack() as running:
        yield SentinelGroup(directory, sockets, running, apart=apart)


@contextmanager
def cluster_group(directory: Path, sockets: Path, kind: type[C] = ClusterGroup) -> Iterator[C]:
    with ExitStack() as running:
        yield kind(directory, sockets, running)
