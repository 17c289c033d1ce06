"""The address on which the service listens."""

from __future__ import annotations

import errno
import socket

from devstack.errors import StartError

ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - a name for it, not a choice of it
WHY = {
    errno.EADDRINUSE: "it is in use; stop what listens there, or set PORT",
    errno.EACCES: "this user may not; set PORT to 1024 or more",
    errno.EADDRNOTAVAIL: "this machine has no such address; set BIND",
}


def check_address(bind: str, port: int) -> None:
    """Raises StartError if the service could not listen there, before any server is started."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            bind, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as candidate:
            # As gunicorn does: connections of a stopped server in TIME_WAIT must not block the start.
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            candidate.bind(address)
            candidate.listen()
    except OSError as error:
        why = WHY.get(error.errno or 0, error.strerror)
        raise StartError(f"cannot listen on port {port} of {bind}: {why}") from error


def reachable_host(bind: str) -> str:
    """Returns a host by which this machine reaches a listener on `bind`."""
    return ANYWHERE.get(bind, bind)


def url(bind: str, port: int) -> str:
    """Returns a URL for a browser on this machine."""
    host = reachable_host(bind)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
