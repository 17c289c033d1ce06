"""A proxy that ends TLS in front of a server on a unix socket, with a certificate of its own."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    files = directory / "certificate.pem", directory / "key.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    names = ["-out", str(files[0]), "-keyout", str(files[1])]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    return files


@contextmanager
def tls_proxy(path: str, files: tuple[Path, Path], *, plain_from: str = "") -> Iterator[int]:
    """Listens on the port it gives, and leads to the server on the socket `path`. With `plain_from`, an address, it
    speaks plainly: a sentinel of Valkey without TLS connects to what it names to others."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)

    def client_of(connection: asyncio.StreamWriter) -> str:
        return str(connection.get_extra_info("peername")[0])

    async def serve(client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        if client_of(answers) != plain_from:
            await answers.start_tls(context)
        server, requests = await asyncio.open_unix_connection(path)
        await asyncio.gather(_pump(client, requests), _pump(server, answers))

    loop = asyncio.new_event_loop()
    listening = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        listening.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.05))
        loop.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
