"""Composition root: the only module that chooses and connects parts."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from flask import Flask
from prometheus_flask_exporter import PrometheusMetrics

from app.api.auth import Authenticator
from app.api.check.encoding import Encoder
from app.api.check.handler import CheckHandler
from app.api.forward_auth.authorizer import Authorizer
from app.api.forward_auth.refusal_log import LoggingClientIdentifier
from app.api.ops.condition import Condition
from app.api.services import Services
from app.config import Settings
from app.extensions import db
from app.limiter.breaker.breaker import Breaker, Transitions
from app.limiter.breaker.per_primary import AnyBreaker, PrimaryBreakers
from app.limiter.breaker.shared_state import Circuit
from app.limiter.denial_cache import DenialCache
from app.limiter.denied_clients import DeniedClients
from app.limiter.errors import no_failure_of_the_store
from app.limiter.fallback.fallback import Fallback
from app.limiter.fallback.fallback_log import FallbackLog
from app.limiter.fallback.local_store import LocalStore
from app.limiter.leases import Leases
from app.limiter.limiter import Limiter
from app.limiter.new_client_budget import NewClientBudget
from app.limiter.redis.cluster import Cluster
from app.limiter.redis.cluster_store import ClusterStore
from app.limiter.redis.endpoint import CLUSTER, SINGLE, RedisEndpoint
from app.limiter.redis.inspection import RedisInspection
from app.limiter.redis.store import RedisStore, connect
from app.limiter.redis.tenant_cleanup import TenantCleanup
from app.nodes.comparison import SharedClock
from app.nodes.registry import Nodes
from app.observability import metric_files
from app.observability.active_clients import ActiveClients
from app.observability.exposition import exposition
from app.observability.metrics import RULE_COUNTS
from app.observability.sampling import Tracing
from app.rules.rule import default_rule
from app.rules.rule_book import RuleBook
from app.rules.sql.access.key_use import KeyUse
from app.rules.sql.database.change_listener import ChangeListener
from app.rules.sql.database.engine import RULES_ENGINE, bound_transactions, place_of
from app.rules.sql.database.statement_spans import trace_statements
from app.rules.sql.snapshot_source import SnapshotSource
from app.rules.sync.refresh_loop import RefreshLoop
from app.rules.sync.reloader import RuleReloader
from app.rules.sync.snapshot_file import SnapshotFile
from app.rules.sync.yielding import CooperativePace, Pace
from app.server.stopping import Drain

BACKGROUND_MS = 1000  # timeout of Redis calls off the path of checks
PROBE_SECONDS = 1.0  # shortest lease of a probe, whose worker may be busy
PROBE_ROUND_TRIPS = 4  # a probe connects and calls, and calls again with the scripts if Redis lost them

AnyStore = RedisStore | ClusterStore


def wire(app: Flask, settings: Settings) -> Services:
    """Connect the parts. Opens no connection, because with preloading this runs before the fork."""
    with app.app_context():
        engine, rules_engine = db.engine, db.engines[RULES_ENGINE]
    tracing = _tracing(settings)
    for each in (engine, rules_engine):
        bound_transactions(each)
        if tracing is not None:
            trace_statements(each)
    key_use, now = KeyUse(engine), SharedClock(time.time)
    pace = CooperativePace(time.monotonic)
    default = default_rule(settings.default_rate, settings.default_window)
    reloader = RuleReloader(
        source=SnapshotSource(rules_engine, pace),
        saved=SnapshotFile(settings.data_dir / "rules.json", time.time, place_of(engine), pace),
        build=partial(RuleBook, default=default, algorithm=settings.algorithm, pace=pace),
        clock=time.monotonic,
        pace=pace,
    )
    redis = _redis(settings)
    store, breaker = redis.store, redis.breaker
    fallback_log = FallbackLog(time.monotonic)
    active_clients = ActiveClients(time.monotonic)
    denied_clients = DeniedClients(store=redis.background_store, rules=reloader, clock=now)
    denials = DenialCache(time.monotonic)
    fallback = Fallback(
        local=LocalStore(holders=settings.nodes * settings.web_concurrency),
        breaker=breaker,
        denials=denials,
        fail_mode=settings.fail_mode,
        fallback_log=fallback_log,
        clock=now,
    )
    limiter = Limiter(
        rules=reloader,
        store=store,
        fallback=fallback,
        breaker=breaker,
        fallback_log=fallback_log,
        denials=denials,
        active_clients=active_clients,
        denied_clients=denied_clients,
        clock=now,
        monotonic=time.monotonic,
    )
    reloader.then(limiter.follow)
    leases = Leases(
        limiter=limiter,
        fallback=fallback,
        active_clients=active_clients,
        denied_clients=denied_clients,
        clock=now,
    )
    authenticator = Authenticator(
        bootstrap_key=settings.admin_api_key,
        open_checks=settings.check_auth == "open",
        rules=reloader,
        used=key_use.note,
        clock=now,
    )
    encoder = Encoder(settings.ratelimit_headers, settings.default_window)
    handler = CheckHandler(
        rules=reloader,
        limiter=limiter,
        authenticator=authenticator,
        encoder=encoder,
        new_client_budget=_new_client_budget(settings),
        tracing=tracing,
        clock=time.perf_counter,
    )
    condition = Condition(
        store=store,
        inspection=RedisInspection(
            store=redis.background_store,
            deciding=store,
            single=redis.single,
            rules=reloader,
            clock=now,
        ),
        breaker=breaker,
        rules=reloader,
        nodes=Nodes(engine, name=f"{socket.gethostname()}:{settings.port}", own_clock=time.time, clock=now),
        settings=settings.shared(),
        shared_clock=now,
        workers=settings.web_concurrency,
        clock=time.monotonic,
    )
    return Services(
        settings=settings,
        check_handler=handler,
        encoder=encoder,
        leases=leases,
        authenticator=authenticator,
        authorizer=Authorizer(
            authenticator=authenticator,
            identifier=LoggingClientIdentifier(
                by=settings.authorize_by,
                groups=settings.authorize_groups,
                trusted=settings.trusted_proxies,
                clock=time.monotonic,
            ),
            rules=reloader,
            tenant=settings.authorize_tenant,
            encoder=encoder,
        ),
        key_use=key_use,
        clock=now,
        reloader=reloader,
        refresh_loop=RefreshLoop(
            reloader, partial(ChangeListener, rules_engine, jitter=lambda: random.uniform(0.8, 1.2))
        ),
        store=store,
        breaker=breaker,
        condition=condition,
        active_clients=active_clients,
        denied_clients=denied_clients,
        tenant_cleanup=TenantCleanup(store=redis.background_store, rules=reloader, denied_clients=denied_clients),
        tracing=tracing,
        metrics=_metrics(app, settings, pace),
        pace=pace,
        drain=Drain(),
    )


def _tracing(settings: Settings) -> Tracing | None:
    if not settings.jaeger_enabled:
        return None
    jaeger = f"http://{settings.jaeger_host}:{settings.jaeger_port}/v1/traces"
    return Tracing(
        service_name=settings.service_name,
        endpoint=None if settings.otel_exporter_otlp_endpoint else jaeger,
        sampler_from_environment=settings.otel_traces_sampler is not None,
    )


class _Redis(NamedTuple):
    """Redis for checks, and with connections of its own for all other work. `single`: the URL names one server."""

    store: AnyStore
    breaker: AnyBreaker
    background_store: AnyStore
    single: bool


def _redis(settings: Settings) -> _Redis:
    store, breaker = _store(settings, settings.redis_timeout_ms)
    background_store, _ = _store(settings, BACKGROUND_MS)
    return _Redis(store, breaker, background_store, RedisEndpoint(settings.redis_url).topology == SINGLE)


def _store(settings: Settings, timeout_ms: int) -> tuple[AnyStore, AnyBreaker]:
    """Return a store, with its own connections, and the breaker that guards it. Opens no connection yet."""
    breaker = partial(
        Breaker,
        failures=settings.breaker_failures,
        reset_seconds=settings.breaker_reset_seconds,
        lease_seconds=max(PROBE_SECONDS, PROBE_ROUND_TRIPS * timeout_ms / 1000),
        clock=time.monotonic,
        exclude=[no_failure_of_the_store],
        listeners=[Transitions()],
    )
    endpoint = RedisEndpoint(settings.redis_url, timeout_ms / 1000)
    if endpoint.topology != CLUSTER:
        only = breaker(circuit=Circuit())
        connection = connect(settings.redis_url, timeout_ms=timeout_ms, clock=time.monotonic, replaced=only.probe_soon)
        return RedisStore(connection), only
    breakers = PrimaryBreakers(breaker, time.monotonic)
    return ClusterStore(Cluster(endpoint, timeout_ms=timeout_ms, breakers=breakers, clock=time.monotonic)), breakers


def _new_client_budget(settings: Settings) -> NewClientBudget | None:
    """Return the budget; None if new clients are not bounded, which then costs nothing."""
    per_minute, workers = settings.max_new_clients_per_minute, settings.web_concurrency
    return NewClientBudget(per_minute=per_minute, workers=workers, clock=time.monotonic) if per_minute else None


def _metrics(app: Flask, settings: Settings, pace: Pace) -> Callable[[], bytes] | None:
    """Return the function that makes the scrape response; None if metrics are disabled.

    Also counts requests of other routes; checks have a histogram of their own.
    """
    if not settings.enable_metrics:
        return None
    # Grouped by rule: paths come from callers, and each would be a series.
    PrometheusMetrics(app, path=None, group_by="url_rule", excluded_paths=["^/v1/(check|authorize)", "^/metrics$"])
    return partial(exposition, metric_files.directory, RULE_COUNTS, pace)
