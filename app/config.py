"""Every setting of the service, read once, with its default and its allowed values."""

from __future__ import annotations

import os
from copy import copy
from pathlib import Path
from typing import Any

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
# The SDK's samplers. The SDK itself would treat any other word as "sample everything".
SAMPLERS = tuple(
    parent + name for parent in ("", "parentbased_") for name in ("always_on", "always_off", "traceidratio")
)
HTTP_SCHEMES = ("http", "https")
DATABASE_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg2")


class Settings:
    """Validated settings from the environment. Each attribute is named after its variable and is never set again."""

    def __init__(self, env: Environment, *, redis: bool) -> None:
        self.bind = env.address("BIND", "127.0.0.1")
        self.trusted_proxies = env.addresses("TRUSTED_PROXIES")
        exposed = not is_loopback(self.bind) or bool(self.trusted_proxies)  # a proxy brings callers from other machines
        self.admin_api_key = env.admin_key("ADMIN_API_KEY", exposed=exposed)
        self.service_name = env.text("SERVICE_NAME", "limiter") or ""
        self.redis_url = (env.redis_url if redis else env.text)("REDIS_URL") or _redis_url_from_parts(env)
        self.redis_embedded = env.text("REDIS_URL") is None and env.text("REDIS_HOST") is None  # neither was given
        self.redis_timeout_ms = env.integer("REDIS_TIMEOUT_MS", 50, 1, 60_000)
        self.database_url = for_psycopg2(env.database_url("DATABASE_URL", DATABASE_SCHEMES))
        self.migration_database_url = for_psycopg2(env.database_url("MIGRATION_DATABASE_URL", DATABASE_SCHEMES))
        self.algorithm = env.choice("ALGORITHM", ALGORITHMS, "token_bucket")
        self.fail_mode = env.choice("FAIL_MODE", FAIL_MODES, "open")
        self.nodes = env.integer("NODES", 1, 1, 10_000)
        self.breaker_failures = env.integer("BREAKER_FAILURES", 5, 1, 1_000_000)
        self.breaker_reset_seconds = env.integer("BREAKER_RESET_SECONDS", 60, 1, 86_400)
        self.jaeger_enabled = env.boolean("JAEGER_ENABLED", False)
        self.jaeger_host = env.text("JAEGER_HOST", "localhost") or ""
        self.jaeger_port = env.integer("JAEGER_PORT", 4318, 1, 65_535)
        # The SDK reads these variables itself; only whether they are set matters here.
        self.otel_traces_sampler = env.choice("OTEL_TRACES_SAMPLER", SAMPLERS, "") or None
        self.otel_traces_sampler_arg = env.share("OTEL_TRACES_SAMPLER_ARG")
        traces = env.url("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", HTTP_SCHEMES)
        self.otel_exporter_otlp_endpoint = traces or env.url("OTEL_EXPORTER_OTLP_ENDPOINT", HTTP_SCHEMES)
        self.log_level = env.choice("LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), "INFO")
        self.log_format = env.choice("LOG_FORMAT", ("text", "json"), "text")
        self.enable_metrics = env.boolean("ENABLE_METRICS", True)
        self.port = env.integer("PORT", 8000, 1, 65_535)
        self.web_concurrency = env.integer("WEB_CONCURRENCY", max(2, os.cpu_count() or 1), 1, 256)
        self.fast_lane = env.boolean("FAST_LANE", True)
        self.data_dir = Path(env.text("DATA_DIR", "instance") or "").absolute()
        self.check_auth = env.choice("CHECK_AUTH", ("open", "required"), "required" if exposed else "open")
        self.authorize_by = env.ways("AUTHORIZE_BY", "key,address")
        self.authorize_groups = env.group_headers("AUTHORIZE_GROUPS")
        self.authorize_tenant = env.name("AUTHORIZE_TENANT", DEFAULT_TENANT)
        self.ratelimit_headers = env.choice("RATELIMIT_HEADERS", ("draft-10", "legacy", "off"), "draft-10")
        self.default_rate = env.integer("DEFAULT_RATE", 100, 1, MAX_AMOUNT)
        self.default_window = env.integer("DEFAULT_WINDOW", 60, 1, MAX_WINDOW_SECONDS)
        self.drain_seconds = env.seconds("DRAIN_SECONDS", 3, 3600)
        self.max_new_clients_per_minute = env.integer("MAX_NEW_CLIENTS_PER_MINUTE", 0, 0, MAX_AMOUNT)
        self.max_connections_per_address = env.integer("MAX_CONNECTIONS_PER_ADDRESS", 500, 0, 1_000_000)
        self.audit_retention_days = env.integer("AUDIT_RETENTION_DAYS", 365, 1, 36_500)
        self.versions_kept = env.integer("VERSIONS_KEPT", 100, 1, 1_000_000)
        self.misspelt = env.misspelt()  # names in `.env` that are no setting, each with the setting that it resembles
        # Warnings for the operator at startup, about risky settings that were left unset.
        self.cautions = _cautions(env, self.bind, self.trusted_proxies, self.admin_api_key)
        if self.default_rate * self.default_window > MAX_RATE_TIMES_WINDOW:
            product = f"{self.default_rate} x {self.default_window}"
            raise SettingsError(refusal("DEFAULT_RATE x DEFAULT_WINDOW", product, f"at most {MAX_RATE_TIMES_WINDOW}"))

    @classmethod
    def from_env(cls, *, redis: bool = True) -> Settings:
        """Read the settings of this process, including `.env` in the working directory. Raises SettingsError.

        `redis` False skips REDIS_URL, because checking it imports the Redis library.
        """
        try:
            return cls(Environment(), redis=redis)
        except ValueError as error:
            raise SettingsError(str(error)) from error

    def at(self, redis_url: str, database_url: str | None) -> Settings:
        """Return the same settings with these server URLs."""
        settings = copy(self)
        settings.redis_url, settings.database_url = redis_url, database_url
        return settings

    def shared(self) -> dict[str, str]:
        """Return the settings that must be the same on all nodes, because they affect decisions.

        No secrets, no addresses.
        """
        names = ("algorithm", "default_rate", "default_window", "fail_mode", "nodes")
        return {name.upper(): str(getattr(self, name)) for name in names}

    def public(self) -> dict[str, Any]:
        """Return the release and the effective settings for the start-up log line, with secrets masked."""
        shown = {"version": __version__} | vars(self)
        shown |= {
            "redis_url": without_password(self.redis_url),
            "database_url": without_password(self.database_url or ""),
            "migration_database_url": without_password(self.migration_database_url or ""),
            "jaeger_host": without_password(self.jaeger_host),
            "otel_exporter_otlp_endpoint": self.otel_exporter_otlp_endpoint
            and server_of(self.otel_exporter_otlp_endpoint),
            "admin_api_key": "***" if self.admin_api_key else None,
        }
        # These go to the operator's terminal, not to the log.
        del shown["redis_embedded"], shown["misspelt"], shown["cautions"]
        return {name: str(value) if isinstance(value, Path) else value for name, value in shown.items()}


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
    """Return the URL with the driver named, so that no SQLAlchemy release can choose another one."""
    return url and "postgresql+psycopg2:" + url.partition(":")[2]
