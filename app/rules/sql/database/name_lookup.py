"""Looks up the names of PostgreSQL's servers in the hub.

libpq would look them up itself, in C. A name server that does not answer would then stop every greenlet of the worker,
at each new connection.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import gevent
import psycopg2

WAIT_SECONDS = 1.5  # as long as for a silent server


class NameLookup:
    """Adds addresses to the options of a new connection.

    One lookup of a name runs at a time, however many connections wait for it: a silent name server keeps a thread of
    the hub busy for much longer than they wait.
    """

    def __init__(self) -> None:
        self._running: dict[str, gevent.Greenlet[..., Any]] = {}

    def add_addresses(self, _dialect: object, _record: object, _arguments: object, options: dict[str, Any]) -> None:
        """Set `hostaddr`, which libpq connects to; `host` still names the server of a certificate.

        A name with several addresses is listed once for each. Raises psycopg2.OperationalError if nothing is found.
        """
        hosts, ports = str(options.get("host") or "").split(","), str(options.get("port") or "").split(",")
        if "hostaddr" in options or not any(map(_is_name, hosts)) or len(ports) not in (1, len(hosts)):
            return
        found, failures = [], []
        for host, port in zip(hosts, ports * len(hosts) if len(ports) == 1 else ports, strict=True):
            addresses = self._addresses(host) if _is_name(host) else [""]
            if isinstance(addresses, Exception):
                failures.append(f"{host}: {addresses}")
            else:
                found += [(host, address, port) for address in addresses]
        if not found:
            raise psycopg2.OperationalError(f"the database's name cannot be looked up: {', '.join(failures)}")
        options["host"], options["hostaddr"], options["port"] = map(",".join, zip(*found, strict=True))

    def _addresses(self, host: str) -> list[str] | Exception:
        lookup = self._running.get(host)
        if lookup is None or lookup.ready():
            lookup = self._running[host] = gevent.spawn(_look_up, host)
        lookup.join(WAIT_SECONDS)
        result: list[str] | Exception | None = lookup.value
        return TimeoutError(f"no answer for {WAIT_SECONDS} s") if result is None else result


def _look_up(host: str) -> list[str] | Exception:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)  # patched: it waits in a thread
    except (OSError, UnicodeError) as error:
        return error
    return [str(address[0]) for *_, address in found]


def _is_name(host: str) -> bool:
    """Whether this is no address, no socket's directory and not the default."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return not host.startswith(("/", "@")) and host != ""
    return False
