"""Every setting of the service, read once, with its default and what is allowed."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from environs import EnvError

from app.environment import MIN_ADMIN_KEY, Environment, SettingsError, is_loopback, refusal, server_of, without_password
from app.rules.rule import (
    ALGORITHMS,
    DEFAULT_TENANT,
    FAIL_MODES,
    MAX_AMOUNT,
    MAX_RATE_TIMES_WINDOW,
    MAX_WINDOW_SECONDS,
)
from app.version import __version__

NO_DATABASE = "DATABASE_URL is not set: allowed is postgresql://user:password@host/database"
# Those of the SDK, which would take any other word for "sample everything".
SAMPLERS = tuple(
    parent + name for parent in ("", "parentbased_") for name in ("always_on", "always_off", "traceidratio")
)
HTTP_SCHEMES = ("http", "https")
DATABASE_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg2")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What the environment says, validated. Fields carry the names of their variables."""

    service_name: str
    redis_url: str = dataclasses.field(repr=False)  # like whatever else may hold a password
    redis_embedded: bool  # neither REDIS_URL nor REDIS_HOST was given
    redis_timeout_ms: int
    database_url: str | None = dataclasses.field(repr=False)
    migration_database_url: str | None = dataclasses.field(repr=False)
    algorithm: str
    fail_mode: str
    nodes: int
    breaker_failures: int
    breaker_reset_seconds: int
    jaeger_enabled: bool
    jaeger_host: str = dataclasses.field(repr=False)
    jaeger_port: int
    otel_traces_sampler: str | None  # read by the SDK; here only whether it is set
    otel_traces_sampler_arg: float | None  # likewise
    otel_exporter_otlp_endpoint: str | None = dataclasses.field(repr=False)  # likewise
    log_level: str
    log_format: str
    enable_metrics: bool
    port: int
    bind: str
    web_concurrency: int
    fast_lane: bool
    data_dir: Path
    admin_api_key: str | None = dataclasses.field(repr=False)
    check_auth: str
    trusted_proxies: str
    authorize_by: str
    authorize_tenant: str
    ratelimit_headers: str
    default_rate: int
    default_window: int
    drain_seconds: float
    max_new_clients_per_minute: int
    max_connections_per_address: int
    audit_retention_days: int
    versions_kept: int
    misspelt: dict[str, str]  # names in `.env` that are no setting's, each with the one it nearly is
    cautions: tuple[str, ...]  # lines for whoever starts this: what was not said and matters

    @classmethod
    def from_env(cls, *, redis: bool = True) -> Settings:
        """The settings of this process, `.env` in the working directory included. Raises SettingsError.

        `redis` False: REDIS_URL is not looked at, which takes Redis's library.
        """
        try:
            return _read(Environment(), redis)
        except (EnvError, ValueError) as error:
            raise SettingsError(str(error)) from error

    def shared(self) -> dict[str, str]:
        """What has to be the same on all nodes of a deployment, since each decides by it. No secrets, no addresses."""
        names = ("algorithm", "default_rate", "default_window", "fail_mode", "nodes")
        return {name.upper(): str(getattr(self, name)) for name in names}

    def public(self) -> dict[str, Any]:
        """The release and the effective settings for the start-up line of the log: secrets masked."""
        shown = {"version": __version__} | dataclasses.asdict(self)
        shown |= {
            "redis_url": without_password(self.redis_url),
            "database_url": without_password(self.database_url or ""),
            "migration_database_url": without_password(self.migration_database_url or ""),
            "jaeger_host": without_password(self.jaeger_host),
            "otel_exporter_otlp_endpoint": self.otel_exporter_otlp_endpoint
            and server_of(self.otel_exporter_otlp_endpoint),
            "admin_api_key": "***" if self.admin_api_key else None,
        }
        del shown["redis_embedded"], shown["misspelt"], shown["cautions"]  # which are for whoever starts this
        return {name: str(value) if isinstance(value, Path) else value for name, value in shown.items()}


def _read(env: Environment, redis: bool) -> Settings:
    bind, trusted_proxies = env.address("BIND", "127.0.0.1"), env.addresses("TRUSTED_PROXIES")
    exposed = not is_loopback(bind) or bool(trusted_proxies)  # a proxy brings callers from elsewhere
    admin_api_key = env.admin_key("ADMIN_API_KEY", exposed=exposed)
    settings = Settings(
        service_name=env.text("SERVICE_NAME", "limiter") or "",
        redis_url=(env.redis_url if redis else env.text)("REDIS_URL") or _redis_url_from_parts(env),
        redis_embedded=env.text("REDIS_URL") is None and env.text("REDIS_HOST") is None,
        redis_timeout_ms=env.integer("REDIS_TIMEOUT_MS", 50, 1, 60_000),
        database_url=for_psycopg2(env.database_url("DATABASE_URL", DATABASE_SCHEMES)),
        migration_database_url=for_psycopg2(env.database_url("MIGRATION_DATABASE_URL", DATABASE_SCHEMES)),
        algorithm=env.choice("ALGORITHM", ALGORITHMS, "token_bucket"),
        fail_mode=env.choice("FAIL_MODE", FAIL_MODES, "open"),
        nodes=env.integer("NODES", 1, 1, 10_000),
        breaker_failures=env.integer("BREAKER_FAILURES", 5, 1, 1_000_000),
        breaker_reset_seconds=env.integer("BREAKER_RESET_SECONDS", 60, 1, 86_400),
        jaeger_enabled=env.boolean("JAEGER_ENABLED", False),
        jaeger_host=env.text("JAEGER_HOST", "localhost") or "",
        jaeger_port=env.integer("JAEGER_PORT", 4318, 1, 65_535),
        otel_traces_sampler=env.choice("OTEL_TRACES_SAMPLER", SAMPLERS, "") or None,
        otel_traces_sampler_arg=env.share("OTEL_TRACES_SAMPLER_ARG"),
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
        admin_api_key=admin_api_key,
        check_auth=env.choice("CHECK_AUTH", ("open", "required"), "required" if exposed else "open"),
        trusted_proxies=trusted_proxies,
        authorize_by=env.ways("AUTHORIZE_BY", "key,address"),
        authorize_tenant=env.name("AUTHORIZE_TENANT", DEFAULT_TENANT),
        ratelimit_headers=env.choice("RATELIMIT_HEADERS", ("draft-10", "legacy", "off"), "draft-10"),
        default_rate=env.integer("DEFAULT_RATE", 100, 1, MAX_AMOUNT),
        default_window=env.integer("DEFAULT_WINDOW", 60, 1, MAX_WINDOW_SECONDS),
        drain_seconds=env.seconds("DRAIN_SECONDS", 3, 3600),
        max_new_clients_per_minute=env.integer("MAX_NEW_CLIENTS_PER_MINUTE", 0, 0, MAX_AMOUNT),
        max_connections_per_address=env.integer("MAX_CONNECTIONS_PER_ADDRESS", 500, 0, 1_000_000),
        audit_retention_days=env.integer("AUDIT_RETENTION_DAYS", 365, 1, 36_500),
        versions_kept=env.integer("VERSIONS_KEPT", 100, 1, 1_000_000),
        misspelt=env.misspelt(),
        cautions=_cautions(env, bind, trusted_proxies, admin_api_key),
    )
    if settings.default_rate * settings.default_window > MAX_RATE_TIMES_WINDOW:
        product = f"{settings.default_rate} x {settings.default_window}"
        raise SettingsError(refusal("DEFAULT_RATE x DEFAULT_WINDOW", product, f"at most {MAX_RATE_TIMES_WINDOW}"))
    return settings


def _cautions(env: Environment, bind: str, trusted_proxies: str, admin_api_key: str | None) -> tuple[str, ...]:
    lines = []
    if admin_api_key and len(admin_api_key) < MIN_ADMIN_KEY:
        lines.append(f"ADMIN_API_KEY has fewer than {MIN_ADMIN_KEY} characters: allowed on a loopback address only")
    if trusted_proxies and is_loopback(bind) and env.text("CHECK_AUTH") is None:
        lines.append(
            "CHECK_AUTH is required, because TRUSTED_PROXIES is set; with open, callers of the proxies need no key"
        )
    return tuple(lines)


def _redis_url_from_parts(env: Environment) -> str:
    host, port = env.host("REDIS_HOST", "localhost"), env.integer("REDIS_PORT", 6379, 1, 65_535)
    server = f"[{host}]" if ":" in host else host
    return f"redis://{server}:{port}/{env.integer('REDIS_DB', 0, 0, 1_000_000)}"


def for_psycopg2(url: str | None) -> str | None:
    """The URL with the driver named, so that no SQLAlchemy release can choose another one for it."""
    return url and "postgresql+psycopg2:" + url.partition(":")[2]
