"""Reads and validates environment variables one at a time; `app/config.py` lists them."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qsl, urlsplit

import psycopg2.extensions
from dotenv import dotenv_values

from app.rules.rule import MAX_NAME

T = TypeVar("T")

_WAY = "(?:key|address|header:[A-Za-z0-9-]{1,64})"
WAYS = re.compile(f"{_WAY}(?: *, *{_WAY})*")
_GROUP_HEADER = "[A-Za-z0-9._-]{1,32}=[A-Za-z0-9-]{1,64}"
GROUP_HEADERS = re.compile(f"{_GROUP_HEADER}(?: *, *{_GROUP_HEADER}){{0,7}}")  # a check has at most 8 groups
HOST = re.compile(r"[A-Za-z0-9_.-]{1,253}")
TRUE, FALSE = ("true", "t", "yes", "y", "on", "1"), ("false", "f", "no", "n", "off", "0")
MIN_ADMIN_KEY = 24  # characters: 96 bits even if each character is one of 16
EXAMPLE = re.compile(r"change.?me.*", re.IGNORECASE)
ALIKE = 0.8  # similarity from 0 to 1 at which a name counts as a misspelling of another
# Matches the user and everything after it up to the last @, also in a URL without a scheme.
CREDENTIALS = re.compile(r"((?:^(?!.*://)|://)[^:@]*:).*@")
TWO_ATS = re.compile("@[^/?]*@")
SECRET = re.compile(r"((?:password|token|secret)=)[^&]*", re.IGNORECASE)  # password, sslpassword, … in a query string


class SettingsError(Exception):
    """A setting has an unusable value. The message is one line: variable, value, allowed values."""


class Environment:
    """Reads variables one at a time from the process, or else from `.env` in the working directory.

    An empty value counts as unset. `NAME_FILE` names a file that holds the value.
    """

    def __init__(self) -> None:
        self._names_read = {"REDIS_HOST", "REDIS_PORT", "REDIS_DB"}  # read only if REDIS_URL is unset
        self._in_file = dotenv_values(".env") if Path(".env").is_file() else {}

    def text(self, name: str, default: str | None = None) -> str | None:
        self._names_read.add(name)
        file = os.environ.get(f"{name}_FILE") or self._in_file.get(f"{name}_FILE")
        if not file:
            return os.environ.get(name, self._in_file.get(name)) or default
        try:
            return Path(file).read_text().strip() or default
        except (OSError, ValueError):
            shown = file if file.startswith(("/", ".")) else "***"  # the text may be the secret itself
            raise SettingsError(refusal(f"{name}_FILE", shown, "a file that can be read")) from None

    def misspelt(self) -> dict[str, str]:
        """Return names in `.env` that no setting uses, each with the setting that it resembles.

        The SDK reads OTEL_* itself.
        """
        strange = {name for name in self._in_file if not name.startswith("OTEL_")} - self._names_read
        near = {
            name: get_close_matches(name.removesuffix("_FILE"), self._names_read, 1, ALIKE) for name in sorted(strange)
        }
        return {name: found[0] for name, found in near.items() if found and found[0] != name.removesuffix("_FILE")}

    def choice(self, name: str, allowed: Iterable[str], default: str) -> str:
        return self._read(name, default, str, lambda value: value in allowed, " | ".join(allowed))

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        return self._read(name, default, int, lambda value: low <= value <= high, f"an integer from {low} to {high}")

    def seconds(self, name: str, default: float, high: float) -> float:
        return self._read(name, default, float, lambda value: 0 <= value <= high, f"seconds from 0 to {high:g}")

    def share(self, name: str) -> float | None:
        if self.text(name) is None:
            return None
        return self._read(name, 1.0, float, lambda value: 0 <= value <= 1, "a number from 0 to 1")

    def boolean(self, name: str, default: bool) -> bool:
        unset = str(default).lower()
        return self._read(name, unset, str.lower, lambda value: value in TRUE + FALSE, "true | false") in TRUE

    def url(self, name: str, schemes: tuple[str, ...]) -> str | None:
        value = self.text(name)
        if value is not None and not _is_url(value, schemes):
            allowed = ", ".join(f"{scheme}://…" for scheme in schemes)
            raise SettingsError(refusal(name, value, allowed))
        return value

    def database_url(self, name: str, schemes: tuple[str, ...]) -> str | None:
        value = self.url(name, schemes)
        # Otherwise part of the password would become the host name, which error messages show.
        if TWO_ATS.search(value or ""):
            allowed = "postgresql://user:password@host/database, with %40 for each @ of a password"
            raise SettingsError(refusal(name, value, allowed))
        for option, _ in parse_qsl(urlsplit(value or "").query, keep_blank_values=True):
            if not _is_libpq_option(option):
                allowed = f"postgresql://user:password@host/database, with options of libpq ({option!r} is not one)"
                raise SettingsError(refusal(name, value, allowed))
        return value

    def redis_url(self, name: str) -> str | None:
        from app.limiter.redis.endpoint import RedisEndpoint  # a command without Redis need not import its library

        value = self.text(name)
        try:
            if value is not None:
                RedisEndpoint(value)
        except ValueError as error:
            raise SettingsError(refusal(name, value, str(error))) from None
        return value

    def host(self, name: str, default: str) -> str:
        """Read the host of a server. An IPv6 address has no brackets."""
        allowed = "a host name or an address"
        return self._read(name, default, str, lambda value: _is_host(value) or _is_address(value), allowed).strip("[]")

    def address(self, name: str, default: str) -> str:
        """Read an address of this machine, without brackets."""
        return self._read(name, default, str, _is_address, "an IP address, or localhost").strip("[]")

    def addresses(self, name: str) -> str:
        """Read addresses and networks, separated by commas, and return them unchanged."""
        value = self.text(name, "") or ""
        try:
            for address in filter(None, value.split(",")):
                ipaddress.ip_network(address.strip())
        except ValueError:
            allowed = "addresses and networks (10.0.0.0/8) separated by commas"
            raise SettingsError(refusal(name, value, allowed)) from None
        return value

    def name(self, name: str, default: str) -> str:
        """Read the name of a tenant."""
        allowed = f"a name of 1 to {MAX_NAME} printable characters"
        return self._read(name, default, str, lambda value: len(value) <= MAX_NAME and value.isprintable(), allowed)

    def admin_key(self, name: str, *, exposed: bool) -> str | None:
        """Read an admin key.

        It must be long if other machines can try keys (`exposed`). Errors never show the value.
        """
        value = self.text(name)
        too_short = exposed and len(value or "") < MIN_ADMIN_KEY
        if value is not None and (too_short or EXAMPLE.fullmatch(value)):
            allowed = f"at least {MIN_ADMIN_KEY} characters, and not the key of an example (try: openssl rand -hex 24)"
            raise SettingsError(refusal(name, "***", allowed))
        return value

    def ways(self, name: str, default: str) -> str:
        """Read the sources of a request's client id, in order of preference."""
        allowed = "key, address and header:NAME, separated by commas"
        return self._read(name, default, str, lambda value: WAYS.fullmatch(value) is not None, allowed)

    def group_headers(self, name: str) -> str:
        """Read the headers that name a request's groups, in order of precedence; "" for none."""

        def fits(value: str) -> bool:
            prefixes = [pair.partition("=")[0].strip() for pair in value.split(",")]
            return GROUP_HEADERS.fullmatch(value) is not None and len(set(prefixes)) == len(prefixes)

        allowed = "1 to 8 of PREFIX=HEADER, separated by commas, each prefix once, of 1 to 32 of A-Z a-z 0-9 . _ -"
        return "" if self.text(name) is None else self._read(name, "", str, fits, allowed)

    def _read(self, name: str, default: T, cast: Callable[[str], T], accept: Callable[[T], bool], allowed: str) -> T:
        value = self.text(name)
        if value is None:
            return default
        try:
            if accept(cast(value)):
                return cast(value)
        except ValueError:
            pass
        raise SettingsError(refusal(name, value, allowed))


def refusal(name: str, value: object, allowed: str) -> str:
    return f"{name}={without_password(str(value))}: allowed is {allowed}"


def is_loopback(address: str) -> bool:
    return address == "localhost" or ipaddress.ip_address(address).is_loopback


def _is_host(value: str) -> bool:
    """Whether this looks like the name of a server. Raises ValueError for one that cannot be resolved."""
    return bool(HOST.fullmatch(value) and _encoded(value))


def _encoded(name: str) -> bytes:
    """Return the name as a name server gets it. Raises ValueError for one that none can resolve, such as `a..b`."""
    return name.removesuffix(".").encode("idna")


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value.strip("[]"))
    except ValueError:
        return value == "localhost"
    return True


def _is_url(value: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(value)
        at_server = value[len(parts.scheme) :].startswith("://") and not parts.netloc.endswith(":")
        for host in (parts.hostname or "").split(","):  # several of a database; "%2f": the directory of a socket
            _encoded("" if host.lower().startswith("%2f") else host)
        return at_server and parts.scheme in schemes and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is not a number, half an IPv6 address, or a name that cannot be resolved
        return False


def _is_libpq_option(name: str) -> bool:
    try:
        return name.isidentifier() and bool(psycopg2.extensions.parse_dsn(f"{name}=x"))
    except psycopg2.Error:
        return False


def without_password(url: str) -> str:
    """Mask the password, also in text that is no valid URL, such as a password with / instead of %2F."""
    return SECRET.sub(r"\1***", CREDENTIALS.sub(r"\1***@", url))


def server_of(url: str) -> str:
    """Return scheme, host and port only: any other part of a collector's address may be a token."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
