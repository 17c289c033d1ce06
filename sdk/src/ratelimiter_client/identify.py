"""Makers of functions from the WSGI environ to a client id; None where the request names no client.

Ids of different makers never coincide: a header that looks like a client's address cannot spend that client's quota.
"""

from __future__ import annotations

import re
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Callable, Dict, Iterable, Union

from ratelimiter_client.arguments import each, refuse_unless, text
from ratelimiter_client.http.breaker import log

Environ = Dict[str, Any]
Identify = Callable[[Environ], Union[str, int, None]]
Address = Union[IPv4Address, IPv6Address]

ADDRESS, KEY, COOKIE = "ip:", "key:", "cookie:"
IPV6_PREFIX = 64  # one subscriber has at least so many to choose from
PROXY_FIX = "werkzeug.proxy_fix.orig"  # in the environ, where it has read X-Forwarded-For
ESCAPED = re.compile(r"\\(?:([0-3][0-7]{2})|(.))", re.DOTALL)  # in a quoted cookie
UNIX = "unix"  # as a trusted proxy: a peer without an address, on a unix socket


def address(trusted: Iterable[str] = ()) -> Identify:
    """`ip:` and the remote address; for IPv6 its network of 64 bits. Never None.

    `trusted`: addresses and networks of proxies whose X-Forwarded-For counts (`"unix"` for those on a unix socket). The
    right-most hop that is not one of them is the client. Hops further left, which the client itself may have written,
    are not read.
    """
    allowed = "a list of addresses, networks and 'unix'"
    names = {trusted} if isinstance(trusted, str) else set(each("trusted_proxies", trusted, allowed))
    refuse_unless(all(isinstance(name, str) for name in names), "trusted_proxies", trusted, allowed)
    networks = [_network(name) for name in sorted(names - {UNIX})]
    told: list[str] = []

    def is_trusted(hop: Address | None) -> bool:
        return UNIX in names if hop is None else any(hop in network for network in networks)

    def identify(environ: Environ) -> str:
        client = _address(environ.get("REMOTE_ADDR", ""))
        forwarded = environ.get("HTTP_X_FORWARDED_FOR", "")
        unsure = forwarded or client is None
        if unsure and not (told or is_trusted(client) or PROXY_FIX in environ):
            told.append("once")
            log.warning(_UNTRUSTED if client is not None else _NO_ADDRESS, client)
        for hop in reversed(forwarded.split(",")):
            named = _address(hop) if is_trusted(client) else None
            if named is None:
                break
            client = named
        return ADDRESS + _shown(client)

    return identify


_UNTRUSTED = (
    "X-Forwarded-For came from %s, which is no trusted proxy, so that all behind it count as one client. If it is a "
    "proxy of yours, name it in trusted_proxies (said once)"
)
_NO_ADDRESS = (
    "a request has no REMOTE_ADDR (%s), so that all such count as one client. If they come through a proxy of yours, "
    'on a unix socket, name "unix" in trusted_proxies (said once)'
)


def _network(name: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(name)
    except ValueError as error:
        raise ValueError(f"trusted_proxies has {name!r}, allowed are addresses, networks and 'unix': {error}") from None


def header(name: str) -> Identify:
    """The value of a request header as it is. Use it only for a header that your own proxy sets or removes."""
    variable = f"HTTP_{text('name', name).upper().replace('-', '_')}"

    def identify(environ: Environ) -> str | None:
        value: str = environ.get(variable, "")
        return _digest("header:", value) if value.startswith((ADDRESS, KEY, COOKIE)) else value or None

    return identify


def cookie(name: str) -> Identify:
    """A digest of a cookie's value: `cookie:` and 32 digits. The session itself stays secret.

    None where it comes with several values: some frameworks read the first, others the last.
    """
    text("name", name)

    def identify(environ: Environ) -> str | None:
        pairs = (pair.partition("=") for pair in environ.get("HTTP_COOKIE", "").split(";"))
        values = {_unquoted(value.strip()) for found, _, value in pairs if found.strip() == name} - {""}
        return _digest(COOKIE, values.pop()) if len(values) == 1 else None

    return identify


def _unquoted(value: str) -> str:
    """A cookie's value as frameworks read it: one session must not be several clients by its spelling."""
    if len(value) < 2 or not value[0] == value[-1] == '"':
        return value
    return ESCAPED.sub(lambda found: chr(int(found[1], 8)) if found[1] else found[2], value[1:-1])


def api_key() -> Identify:
    """A digest of the key in X-API-Key or `Authorization: Bearer`: `key:` and 32 digits. The key stays secret.

    None where both are there and differ: the application may read either. A caller that makes up keys makes up
    clients: let the application refuse unknown keys, or limit by address as well.
    """

    def identify(environ: Environ) -> str | None:
        scheme, _, bearer = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        keys = {environ.get("HTTP_X_API_KEY", "").strip(), bearer.strip() if scheme.lower() == "bearer" else ""} - {""}
        return _digest(KEY, keys.pop()) if len(keys) == 1 else None

    return identify


def _digest(kind: str, secret: str) -> str:
    return kind + sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _address(text: str) -> Address | None:
    """The address; None if the text is none. Some proxies add a port, some systems a zone."""
    host = text.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        parsed = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed


def _shown(client: Address | None) -> str:
    if isinstance(client, IPv6Address):
        return str(IPv6Network((int(client), IPV6_PREFIX), strict=False))
    return "unknown" if client is None else str(client)
