"""Every setting of the service, read once from the environment. No other file reads `os.environ`."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from dotenv import dotenv_values
from environs import EnvError, FileAwareEnv
from marshmallow import ValidationError

from app.limiter.redis_url import Servers
from app.rules.rule import ALGORITHMS, FAIL_MODES, MAX_AMOUNT, MAX_RATE_TIMES_WINDOW, MAX_WINDOW_SECONDS

T = TypeVar("T")

LOOPBACK = ("127.0.0.1", "localhost", "::1")
NO_DATABASE = "DATABASE_URL is not set: allowed is postgresql://user:password@host/database"
# Those of the SDK, which would take any other word for "sample everything".
SAMPLERS = tuple(
    parent + name for parent in ("", "parentbased_") for name in ("always_on", "always_off", "traceidratio")
)
HTTP_SCHEMES = ("http", "https")
DATABASE_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg2")
_WAY = "(?:key|address|header:[A-Za-z0-9-]{1,64})"
WAYS = re.compile(f"{_WAY}(?: *, *{_WAY})*")
ALIKE = 0.8  # of 1, from where on a name passes for a misspelt other one
CREDENTIALS = re.compile(r"(://[^:@]*:).*@")  # the user and what follows, up to the last @
PASSWORD = re.compile(r"(password=)[^&]*", re.IGNORECASE)  # password, sslpassword, … in a query


class SettingsError(Exception):
    """A setting has a value that cannot be used. The message is one line: variable, value, what is allowed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What the environment says, validated. Fields carry the names of their variables."""

    service_name: str
    redis_url: str
    redis_embedded: bool  # neither REDIS_URL nor REDIS_HOST was given
    redis_timeout_ms: int
    database_url: str | None
    algorithm: str
    fail_mode: str
    nodes: int
    breaker_failures: int
    breaker_reset_seconds: int
    jaeger_enabled: bool
    jaeger_host: str
    jaeger_port: int
    otel_traces_sampler: str | None  # read by the SDK; here only whether it is set
    otel_traces_sampler_arg: float  # likewise
    otel_exporter_otlp_endpoint: str | None  # likewise
    log_level: str
    log_format: str
    enable_metrics: bool
    port: int
    bind: str
    web_concurrency: int
    fast_lane: bool
    data_dir: Path
    admin_api_key: str | None
    check_auth: str
    trusted_proxies: str
    authorize_by: str
    ratelimit_headers: str
    default_rate: int
    default_window: int
    drain_seconds: float
    max_new_clients_per_minute: int
    audit_retention_days: int
    versions_kept: int
    misspelt: dict[str, str]  # names in `.env` that are no setting's, each with the one it nearly is

    @classmethod
    def from_env(cls) -> Settings:
        """The settings of this process, `.env` in the working directory included. Raises SettingsError."""
        try:
            return _read(_Reader())
        except (EnvError, ValueError) as error:
            raise SettingsError(str(error)) from error

    def public(self) -> dict[str, Any]:
        """The effective settings for the start-up line of the log: secrets masked."""
        shown = dataclasses.asdict(self) | {
            "redis_url": _without_password(self.redis_url),
            "database_url": _without_password(self.database_url or ""),
            "otel_exporter_otlp_endpoint": _without_password(self.otel_exporter_otlp_endpoint or ""),
            "admin_api_key": "***" if self.admin_api_key else None,
        }
        del shown["redis_embedded"], shown["misspelt"]  # which are for whoever starts this
        return {name: str(value) if isinstance(value, Path) else value for name, value in shown.items()}


class _Reader:
    """Reads one variable at a time; an empty value counts as unset; `NAME_FILE` names a file with the value."""

    def __init__(self) -> None:
        self._env = FileAwareEnv(strip_whitespace=True)
        self._asked = {"REDIS_HOST", "REDIS_PORT", "REDIS_DB"}  # which are read only where REDIS_URL says nothing
        if Path(".env").is_file():
            self._env.read_env(".env", recurse=False)

    def text(self, name: str, default: str | None = None) -> str | None:
        self._asked.add(name)
        try:
            return self._env.str(name, None) or default
        except ValueError:
            file = f"{name}_FILE"
            raise SettingsError(_refusal(file, self._env.str(file), "a file that can be read")) from None

    def misspelt(self) -> dict[str, str]:
        """Names in `.env` that nobody has asked for, each with the one it nearly is. The SDK reads OTEL_* itself."""
        strange = {name for name in dotenv_values(".env") if not name.startswith("OTEL_")} - self._asked
        near = {name: get_close_matches(name.removesuffix("_FILE"), self._asked, 1, ALIKE) for name in sorted(strange)}
        return {name: found[0] for name, found in near.items() if found and found[0] != name.removesuffix("_FILE")}

    def choice(self, name: str, allowed: Iterable[str], default: str) -> str:
        return self._read(name, default, str, lambda value: value in allowed, " | ".join(allowed))

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        return self._read(name, default, int, lambda value: low <= value <= high, f"an integer from {low} to {high}")

    def seconds(self, name: str, default: float, high: float) -> float:
        return self._read(name, default, float, lambda value: 0 <= value <= high, f"seconds from 0 to {high:g}")

    def share(self, name: str, default: float) -> float:
        return self._read(name, default, float, lambda value: 0 <= value <= 1, "a number from 0 to 1")

    def boolean(self, name: str, default: bool) -> bool:
        if self.text(name) is None:
            return default
        try:
            return bool(self._env.bool(name))
        except EnvError:
            raise SettingsError(_refusal(name, self.text(name), "true | false")) from None

    def url(self, name: str, schemes: tuple[str, ...]) -> str | None:
        value = self.text(name)
        if value is not None and not _is_url(value, schemes):
            allowed = ", ".join(f"{scheme}://…" for scheme in schemes)
            raise SettingsError(_refusal(name, _without_password(value), allowed))
        return value

    def redis_url(self, name: str) -> str | None:
        value = self.text(name)
        try:
            if value is not None:
                Servers(value)
        except ValueError as error:
            raise SettingsError(_refusal(name, _without_password(value or ""), str(error))) from None
        return value

    def addresses(self, name: str) -> str:
        """Addresses and networks, separated by commas, as they were given."""
        value = self.text(name, "") or ""
        try:
            for address in filter(None, value.split(",")):
                ipaddress.ip_network(address.strip())
        except ValueError:
            allowed = "addresses and networks (10.0.0.0/8) separated by commas"
            raise SettingsError(_refusal(name, value, allowed)) from None
        return value

    def ways(self, name: str, default: str) -> str:
        """How a request names its client, first the one that counts first."""
        allowed = "key, address and header:NAME, separated by commas"
        return self._read(name, default, str, lambda value: WAYS.fullmatch(value) is not None, allowed)

    def _read(self, name: str, default: T, cast: Callable[[str], T], accept: Callable[[T], bool], allowed: str) -> T:
        value = self.text(name)
        if value is None:
            return default
        try:
            if accept(cast(value)):
                return cast(value)
        except (ValueError, ValidationError):
            pass
        raise SettingsError(_refusal(name, value, allowed))


def _read(env: _Reader) -> Settings:
    bind = env.text("BIND", "127.0.0.1") or ""
    settings = Settings(
        service_name=env.text("SERVICE_NAME", "limiter") or "",
        redis_url=env.redis_url("REDIS_URL") or _redis_url_from_parts(env),
        redis_embedded=env.text("REDIS_URL") is None and env.text("REDIS_HOST") is None,
        redis_timeout_ms=env.integer("REDIS_TIMEOUT_MS", 50, 1, 60_000),
        database_url=for_psycopg2(env.url("DATABASE_URL", DATABASE_SCHEMES)),
        algorithm=env.choice("ALGORITHM", ALGORITHMS, "token_bucket"),
        fail_mode=env.choice("FAIL_MODE", FAIL_MODES, "open"),
        nodes=env.integer("NODES", 1, 1, 10_000),
        breaker_failures=env.integer("BREAKER_FAILURES", 5, 1, 1_000_000),
        breaker_reset_seconds=env.integer("BREAKER_RESET_SECONDS", 60, 1, 86_400),
        jaeger_enabled=env.boolean("JAEGER_ENABLED", False),
        jaeger_host=env.text("JAEGER_HOST", "localhost") or "",
        jaeger_port=env.integer("JAEGER_PORT", 4318, 1, 65_535),
        otel_traces_sampler=env.choice("OTEL_TRACES_SAMPLER", SAMPLERS, "") or None,
        otel_traces_sampler_arg=env.share("OTEL_TRACES_SAMPLER_ARG", 1),
        otel_exporter_otlp_endpoint=env.url("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", HTTP_SCHEMES)
        or env.url("OTEL_EXPORTER_OTLP_ENDPOINT", HTTP_SCHEMES),
        log_level=env.choice("LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), "INFO"),
        log_format=env.choice("LOG_FORMAT", ("text", "json"), "text"),
        enable_metrics=env.boolean("ENABLE_METRICS", True),
        port=env.integer("PORT", 8000, 1, 65_535),
        bind=bind,
        web_concurrency=env.integer("WEB_CONCURRENCY", max(2, os.cpu_count() or 1), 1, 256),
        fast_lane=env.boolean("FAST_LANE", True),
        data_dir=Path(env.text("DATA_DIR", "instance") or "").absolute(),
        admin_api_key=env.text("ADMIN_API_KEY"),
        check_auth=env.choice("CHECK_AUTH", ("open", "required"), "open" if bind in LOOPBACK else "required"),
        trusted_proxies=env.addresses("TRUSTED_PROXIES"),
        authorize_by=env.ways("AUTHORIZE_BY", "key,address"),
        ratelimit_headers=env.choice("RATELIMIT_HEADERS", ("draft-10", "legacy", "off"), "draft-10"),
        default_rate=env.integer("DEFAULT_RATE", 100, 1, MAX_AMOUNT),
        default_window=env.integer("DEFAULT_WINDOW", 60, 1, MAX_WINDOW_SECONDS),
        drain_seconds=env.seconds("DRAIN_SECONDS", 3, 3600),
        max_new_clients_per_minute=env.integer("MAX_NEW_CLIENTS_PER_MINUTE", 0, 0, MAX_AMOUNT),
        audit_retention_days=env.integer("AUDIT_RETENTION_DAYS", 365, 1, 36_500),
        versions_kept=env.integer("VERSIONS_KEPT", 100, 1, 1_000_000),
        misspelt=env.misspelt(),
    )
    if settings.default_rate * settings.default_window > MAX_RATE_TIMES_WINDOW:
        product = f"{settings.default_rate} x {settings.default_window}"
        raise SettingsError(_refusal("DEFAULT_RATE x DEFAULT_WINDOW", product, f"at most {MAX_RATE_TIMES_WINDOW}"))
    return settings


def _refusal(name: str, value: object, allowed: str) -> str:
    return f"{name}={value!s}: allowed is {allowed}"


def _redis_url_from_parts(env: _Reader) -> str:
    host = env.text("REDIS_HOST", "localhost")
    return f"redis://{host}:{env.integer('REDIS_PORT', 6379, 1, 65_535)}/{env.integer('REDIS_DB', 0, 0, 1_000_000)}"


def for_psycopg2(url: str | None) -> str | None:
    """The URL with the driver named, so that no SQLAlchemy release can choose another one for it."""
    return url and "postgresql+psycopg2:" + url.partition(":")[2]


def _is_url(value: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in schemes and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is no number, half an IPv6 address
        return False


def _without_password(url: str) -> str:
    """Also where it is no URL, for instance because the password has a / in it that should be %2F."""
    return PASSWORD.sub(r"\1***", CREDENTIALS.sub(r"\1***@", url))
