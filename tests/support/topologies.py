"""Valkey as production runs it: a primary with a replica under three sentinels, a cluster of three and three."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import redis

from app.embedded import Valkey
from app.embedded.guarded import Program
from tests.support.acl import PASSWORD, acl_command
from tests.support.node import free_port

MASTER = "limits"
DOWN_MS = 500  # of silence, until a primary counts as dead
QUICK = {"repl-diskless-sync-delay": "0"}
START_SECONDS = 30


class Sentinel(Valkey):
    """Watches the primary on `watched`. It writes what it learns into its own configuration."""

    def __init__(self, *, watched: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._watched = watched

    def _program(self, output: int, lock: int) -> Program:
        program = super()._program(output, lock)
        settings = {name: self._settings()[name] for name in ("port", "bind", "unixsocket", "dir")}
        lines = [f"{name} {value}" for name, value in settings.items()]
        lines += [
            f"sentinel monitor {MASTER} 127.0.0.1 {self._watched} 2",
            f"sentinel down-after-milliseconds {MASTER} {DOWN_MS}",
            f"sentinel failover-timeout {MASTER} 3000",
        ]
        configuration = self.data_dir / "sentinel.conf"
        configuration.write_text("\n".join(lines) + "\n")
        return replace(program, argv=(program.argv[0], str(configuration), "--sentinel"))


class Group:
    """Servers that belong together, each on a port of 127.0.0.1."""

    def __init__(self, directory: Path, sockets: Path, running: ExitStack) -> None:
        self._directory, self._sockets, self._running = directory, sockets, running
        self.servers: dict[int, Valkey] = {}

    def start(self, **options: str) -> int:
        """The port of one more."""
        port = free_port()
        names = {name.replace("_", "-"): value for name, value in options.items()}
        self._run(port, Valkey(**self._place(port), options=QUICK | names))
        return port

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
    def __init__(self, directory: Path, sockets: Path, running: ExitStack) -> None:
        super().__init__(directory, sockets, running)
        self.primary = self.start()
        self.replica = self.start(replicaof=f"127.0.0.1 {self.primary}")
        for port in self.servers:
            self.ask(port, *acl_command("+role"))
        self.sentinels = [free_port() for _ in range(3)]
        for port in self.sentinels:
            self._run(port, Sentinel(**self._place(port), watched=self.primary))
        eventually(lambda: all(self._knows_all(sentinel) for sentinel in self.sentinels))

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        return f"redis+sentinel://ratelimiter:{PASSWORD}@{hosts}/{MASTER}"

    def _knows_all(self, sentinel: int) -> bool:
        known = self.ask(sentinel, "SENTINEL", "MASTER", MASTER)
        fields = dict(zip(known[::2], known[1::2], strict=True))
        return (int(fields["num-slaves"]), int(fields["num-other-sentinels"])) == (1, 2)


def eventually(holds: Callable[[], bool], seconds: float = START_SECONDS) -> None:
    """Returns when the condition holds; fails the test when it does not come true."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "the servers did not come to agree"
        time.sleep(0.05)


@contextmanager
def sentinel_group(directory: Path, sockets: Path) -> Iterator[SentinelGroup]:
    with ExitStack() as running:
        yield SentinelGroup(directory, sockets, running)
