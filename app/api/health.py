"""For operators and machines: health, readiness, breaker, metrics, the OpenAPI document. No key needed."""

from __future__ import annotations

from typing import Any

from flask import Response, current_app, jsonify, request
from flask_smorest import Blueprint

from app.api.auth import public
from app.api.problems import Problem
from app.extensions import api
from app.observability.metrics import ACTIVE_CLIENTS

blueprint = Blueprint("health", __name__, description="Health, metrics")


def _services() -> Any:
    return current_app.extensions["ratelimiter"]


@blueprint.route("/health")
@public
def health() -> Response:
    """What works. Degraded while Redis or the database does not answer, or the breaker is not closed."""
    services = _services()
    rules = services.reloader.freshness()
    redis_available = services.store.ping()
    breaker_closed = services.breaker.status().state == "closed"
    healthy = redis_available and rules.database_available and breaker_closed and rules.version is not None
    return jsonify(
        status="healthy" if healthy else "degraded",
        service=services.settings.service_name,
        redis_available=redis_available,
        database_available=rules.database_available,
        rules_version=rules.version,
        rules_age_seconds=rules.age_seconds,
    )


@blueprint.route("/livez")
@public
def livez() -> Response:
    """The worker answers."""
    return jsonify(status="alive")


@blueprint.route("/readyz")
@public
def readyz() -> Response:
    """Send traffic here: rules are known and the node is not draining. Redis's state plays no part."""
    services = _services()
    if services.drain.draining:
        raise Problem(503, "draining: this node is about to stop")
    if services.reloader.book is None:
        raise Problem(503, "no rules are known yet: the database has not answered since the start")
    return jsonify(status="ready")


@blueprint.route("/circuit-breaker-status")
@public
def circuit_breaker_status() -> Response:
    """The breaker in front of Redis."""
    status = _services().breaker.status()
    return jsonify(
        state=status.state,
        failure_count=status.failure_count,
        time_until_retry_seconds=status.time_until_retry_seconds,
    )


@blueprint.route("/metrics")
@public
def metrics() -> Response:
    """Prometheus metrics, added up over the node's workers."""
    services = _services()
    if services.http_metrics is None:
        raise Problem(404, "metrics are off: ENABLE_METRICS=false")
    ACTIVE_CLIENTS.set(services.active_clients.estimate())
    body, content_type = services.http_metrics.generate_metrics(accept_header=request.headers.get("Accept"))
    return Response(body, content_type=content_type)


@blueprint.route("/openapi.json")
@public
@blueprint.doc(hidden=True)
def openapi() -> Response:
    """This API as OpenAPI 3.1."""
    return jsonify(api.spec.to_dict())
