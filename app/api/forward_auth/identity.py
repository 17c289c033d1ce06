"""Derives the client id and the groups of a forward-auth request. Headers count only from a trusted proxy, never from
its client.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from app.api.auth import Principal
from app.api.problems import INVALID, Problem
from app.rules.matching.networks import ADDRESS, SUBSCRIBER_BITS

FORWARDED_FOR = "X-Forwarded-For"
BY_KEY, BY_ADDRESS, BY_HEADER = "key", "address", "header:"
# The prefix of client ids by key. As with ADDRESS, no id from a header may have it, so nobody spends another's quota.
KEY = "key:"

IPAddress = IPv4Address | IPv6Address
Header = Callable[[str], str | None]  # returns the value of the named header, in whatever case


class ClientIdentifier:
    """Names the client of a request by the first way in `by` (AUTHORIZE_BY) that yields a name.

    `groups` are the headers of AUTHORIZE_GROUPS, each after its prefix; "" for none. `trusted` are the addresses and
    networks of TRUSTED_PROXIES, separated by commas.
    """

    def __init__(self, *, by: str, trusted: str, groups: str = "") -> None:
        self._ways = [way.strip() for way in by.split(",")]
        pairs = (pair.strip().partition("=") for pair in groups.split(",") if pair)
        self.group_headers = [(prefix, name) for prefix, _, name in pairs]
        self._trusted = [ip_network(network.strip()) for network in trusted.split(",") if network.strip()]

    def client_id(self, peer: str, header: Header, key: Principal | None) -> str:
        """The client id to count by. `peer`: the address of the connection; `key`: the principal of the key, if one was
        sent.

        Raises Problem 403 for an identity header of an untrusted peer, and 400 where nothing names the client.
        """
        for way in self._ways:
            if way == BY_KEY:
                named = key and KEY + key.owner
            elif way == BY_ADDRESS:
                named = ADDRESS + self._origin(peer, header(FORWARDED_FOR))
            else:
                named = self._from_header(peer, way.removeprefix(BY_HEADER), header)
            if named:
                return named
        raise Problem(
            400, f"the request names no client; AUTHORIZE_BY allows: {', '.join(self._ways)}", kind="no-client"
        )

    def _from_header(self, peer: str, name: str, header: Header) -> str | None:
        value = header(name)
        if value is None:
            return None
        self._require_trust(peer, name)
        if value.startswith((KEY, ADDRESS)):
            raise Problem(400, f"{name} must not begin with {KEY} or {ADDRESS}: other ids do", kind="no-client")
        try:
            return _text(value)
        except UnicodeDecodeError:
            raise Problem(400, f"{name} is not UTF-8", kind="no-client") from None

    def groups(self, peer: str, header: Header) -> list[str]:
        """The groups of the request: a prefix, a colon and the whole value of each header that is there and not empty.

        Raises Problem 403 for a header of an untrusted peer, and 422 for one that is not UTF-8.
        """
        groups = []
        for prefix, name in self.group_headers:
            value = header(name)
            if value:
                self._require_trust(peer, name)
                try:
                    groups.append(f"{prefix}:{_text(value)}")
                except UnicodeDecodeError:
                    raise Problem(422, INVALID, errors={"groups": [f"{name} is not UTF-8."]}) from None
        return groups

    def _origin(self, peer: str, forwarded_for: str | None) -> str:
        """The right-most address that is not a trusted proxy's; the left-most if all are trusted."""
        if forwarded_for is None:
            if self._trusts(_address(peer)):
                raise Problem(400, f"the trusted proxy {peer} sent no {FORWARDED_FOR}", kind="no-client")
            return _address_text(_address(peer))
        self._require_trust(peer, FORWARDED_FOR)
        for hop in reversed(forwarded_for.split(",")):
            address = _address(hop)
            if not self._trusts(address):
                break
        return _address_text(address)

    def _require_trust(self, peer: str, header: str) -> None:
        if not self._trusts(_address(peer)):
            raise Problem(
                403, f"{header} comes from {peer}, which is not among TRUSTED_PROXIES", kind="untrusted-proxy"
            )

    def _trusts(self, address: IPAddress) -> bool:
        return any(address in network for network in self._trusted)


def _text(value: str) -> str:
    """The UTF-8 text of a header. Raises UnicodeDecodeError."""
    return value.encode("latin-1").decode()  # WSGI decodes every byte as a character


def _address(text: str) -> IPAddress:
    """The address without the port that some proxies add. Raises Problem 400."""
    host = text.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ip_address(host)
    except ValueError:
        raise Problem(400, f"the connection or its {FORWARDED_FOR} has an invalid address", kind="no-client") from None
    return getattr(address, "ipv4_mapped", None) or address


def _address_text(address: IPAddress) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    return str(IPv6Network((int(address), SUBSCRIBER_BITS), strict=False))
