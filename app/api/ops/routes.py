"""Operations: health, readiness, breaker, metrics, the OpenAPI document. No key needed."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from apispec import APISpec
from flask import Response, current_app
from flask_smorest import Blueprint
from werkzeug.routing import Map

from app.api.auth import public
from app.api.openapi.document import finished
from app.api.ops import schemas
from app.api.problems import Problem
from app.api.services import services
from app.extensions import api
from app.limiter.fallback.fallback import MEANING
from app.observability.exposition import CONTENT_TYPE
from app.observability.metrics import ACTIVE_CLIENTS, BREAKER_STATE
from app.rules.sync.garbage_collection import long_work
from app.version import __version__

blueprint = Blueprint("health", __name__, description="Health, metrics")


@blueprint.route("/health")
@blueprint.response(200, schemas.HealthSchema)
@public
def health() -> dict[str, Any]:
    """State what works, and why a node is degraded. Causes: Redis or the database fails or lacks an ability, the
    breaker is not closed, rules cannot be used, or nodes differ in what decides.
    """
    wired = services()
    wired.condition.ask()
    reasons, rules = wired.condition.reasons(), wired.reloader.freshness()
    return {
        "status": "healthy" if wired.condition.healthy else "degraded",
        "reasons": list(reasons.values()),
        "service": wired.settings.service_name,
        "version": __version__,
        "redis_available": wired.condition.redis_available,
        "fail_mode": wired.settings.fail_mode,
        "without_redis": MEANING[wired.settings.fail_mode],
        "database_available": rules.database_available,
        "rules_version": rules.version,
        "rules_age_seconds": rules.age_seconds,
        "rules_notified": wired.refresh_loop.notified,
        "saved_rules_age_seconds": wired.reloader.saved_age_seconds,
    }


@blueprint.route("/livez")
@blueprint.response(200, schemas.LifeSchema)
@public
def livez() -> dict[str, str]:
    """The worker answers."""
    return {"status": "alive"}


@blueprint.route("/readyz")
@blueprint.response(200, schemas.LifeSchema)
@public
def readyz() -> dict[str, str]:
    """Send traffic here: rules are known and the node is not draining. The state of Redis plays no part."""
    wired = services()
    if wired.drain.draining:
        raise Problem(503, "draining: this node is about to stop", kind="draining")
    if wired.reloader.book is None:
        detail = "no rules are known yet: the database has not answered since the start"
        raise Problem(503, detail, kind="no-rules")
    return {"status": "ready"}


@blueprint.route("/circuit-breaker-status")
@blueprint.response(200, schemas.BreakerSchema)
@public
def circuit_breaker_status() -> Any:
    """The node's breaker in front of Redis: every worker gives the same answer."""
    return services().breaker.status()


@blueprint.route("/metrics")
@blueprint.response(200, {"type": "string"}, content_type="text/plain")
@public
def metrics() -> Response:
    """Prometheus metrics, added up over the node's workers."""
    wired = services()
    if wired.metrics is None:
        raise Problem(404, "metrics are off: ENABLE_METRICS=false")
    with long_work:
        ACTIVE_CLIENTS.set(wired.active_clients.estimate(wired.pace))
        BREAKER_STATE.set(wired.breaker.state_number)
        wired.condition.show()
        return Response(wired.metrics(), content_type=CONTENT_TYPE)


@blueprint.route("/openapi.json")
@blueprint.response(200, {"type": "object"})
@public
def openapi() -> Response:
    """This API as OpenAPI 3.1."""
    return Response(_document(api.spec, current_app.url_map), mimetype="application/json")


@lru_cache(maxsize=1)  # the document takes some 30 ms to make
def _document(spec: APISpec, routes: Map) -> bytes:
    document = finished(spec, routes.iter_rules())
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
