"""A TCP proxy in front of a server, which delays, swallows or resets on demand."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Self, TypeVar

T = TypeVar("T")

READ_BYTES = 65536
AGAIN_SECONDS = 0.2  # after which Linux sends a lost packet again, at the earliest
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close resets the connection


class Proxy:
    """Forwards from entry to exit. Change the attributes while it runs: they hold for what comes from then on.

    `delay_seconds`: each way. `late_share`: of what passes, as if its packets were lost and sent again.
    `lose_answers`: what the server says goes nowhere, what it is told arrives. `black_hole`: nothing passes, yet
    everybody is connected. `cut_off`: nothing passes for those that connect from these addresses, as `black_hole`.
    `server`: a unix socket, or a port of 127.0.0.1.
    """

    def __init__(self, server: Path | int) -> None:
        self.delay_seconds = 0.0
        self.late_share = 0.0
        self.lose_answers = False
        self.black_hole = False
        self.cut_off: frozenset[str] = frozenset()
        self.connections = 0  # since the start
        self._server = server
        self._dice = random.Random(20261125)
        self._clients: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._listener = self._run(asyncio.start_server(self._forward, "127.0.0.1", 0))
        self.port: int = self._listener.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def reset(self) -> int:
        """Reset every connection; how many there were."""
        return self._run(self._reset(lambda _: True))

    def heal(self) -> None:
        """Nobody is cut off any more. Connections that were end, since what was sent on them meanwhile is lost."""
        parted, self.cut_off = self.cut_off, frozenset()
        self._run(self._reset(lambda host: host in parted))

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _reset(self, meant: Callable[[str], bool]) -> int:
        clients = [client for client in self._clients if meant(_host(client))]
        for client in clients:
            client.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.transport.abort()
        return len(clients)

    async def _stop(self) -> None:
        self._listener.close()
        await asyncio.sleep(0.01)  # connections just accepted take some turns of the loop to begin
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # the transports take a turn of the loop to close

    async def _forward(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._clients.add(client)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        host = _host(client)

        def nothing_passes() -> bool:
            return self.black_hole or host in self.cut_off

        try:
            answers, server = await self._connected()
            try:
                pumps = (
                    self._pump(reader, server, nothing_passes),
                    self._pump(answers, client, lambda: nothing_passes() or self.lose_answers),
                )
                _, rest = await asyncio.wait(map(asyncio.ensure_future, pumps), return_when=asyncio.FIRST_COMPLETED)
                for pump in rest:
                    pump.cancel()
                while nothing_passes():  # nor does anybody learn that the other has gone
                    await asyncio.sleep(0.01)
            finally:
                server.transport.abort()
        except (OSError, asyncio.CancelledError):  # the server is not there, or the test is over
            pass
        finally:
            client.transport.abort()
            self._clients.discard(client)
            self._tasks.discard(task)

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._server, int):
            return await asyncio.open_connection("127.0.0.1", self._server)
        return await asyncio.open_unix_connection(self._server)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, swallowed: Callable[[], bool]
    ) -> None:
        due = 0.0
        with contextlib.suppress(OSError):
            while data := await source.read(READ_BYTES):
                if not swallowed():
                    late = AGAIN_SECONDS if self._dice.random() < self.late_share else 0
                    due = max(due + 1e-6, self._loop.time() + self.delay_seconds + late)  # nothing overtakes
                    self._loop.call_at(due, sink.write, data)


def _host(client: asyncio.StreamWriter) -> str:
    """From where it connects."""
    return str((client.get_extra_info("peername") or ("",))[0])
