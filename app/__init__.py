"""The rate limiter as a Flask application."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from flask import Flask

if TYPE_CHECKING:
    from app.config import Settings


def create_app(settings: Settings | None = None) -> Flask:
    """Create the application, wired but not connected: workers connect after the fork
    (`worker_lifecycle.start_worker`).

    The parts are imported here, not with the package, because a command needs few of them.
    """
    from app import cli, extensions, wiring
    from app.api import auth, correlation, flask_headers, leases, problems, request_body, request_tracing
    from app.api.admin import api_keys, audit, counters, denied_clients, templates, tenants
    from app.api.admin.import_export import routes as import_export_routes
    from app.api.admin.rules import actions as rule_actions
    from app.api.admin.rules import routes as rule_routes
    from app.api.check import routes as check_routes
    from app.api.check.wsgi_door import WsgiDoor
    from app.api.forward_auth import routes as forward_auth_routes
    from app.api.openapi import swagger_ui
    from app.api.ops import routes as ops_routes
    from app.cli.resources import devstack_servers
    from app.config import Settings
    from app.observability import logs
    from app.rules.sql.database.engine import ENGINE_OPTIONS, RULES_ENGINE, RULES_ENGINE_OPTIONS

    settings = settings or devstack_servers.settings_of_command(Settings.from_env())
    logs.configure(settings.log_level, settings.log_format)
    app = Flask(__name__, static_folder=None)
    app.url_map.merge_slashes = False  # `/v1//check` is 404 like any other unknown path, not a redirect
    database_url = settings.database_url or "postgresql+psycopg2://"
    engine_options = ENGINE_OPTIONS if settings.database_url else {"creator": _no_database}
    app.config.update(
        API_TITLE="Distributed Rate Limiter",
        API_VERSION="v1",
        OPENAPI_VERSION="3.1.0",
        SQLALCHEMY_DATABASE_URI=database_url,
        SQLALCHEMY_ENGINE_OPTIONS=engine_options,
        SQLALCHEMY_BINDS={RULES_ENGINE: {"url": database_url} | engine_options | RULES_ENGINE_OPTIONS},
    )
    extensions.db.init_app(app)
    extensions.migrate.init_app(app, extensions.db)
    extensions.api.init_app(app)
    services = app.extensions["ratelimiter"] = wiring.wire(app, settings)
    app.wsgi_app = WsgiDoor(services.check_handler, services.authorizer, app.wsgi_app)  # type: ignore[method-assign]
    # Each request passes through them in this order.
    for concern in (
        correlation,
        request_tracing,
        problems,
        request_body,
        auth,
        flask_headers,
    ):
        concern.init_app(app)
    for routes in (
        check_routes,
        forward_auth_routes,
        leases,
        rule_routes,
        rule_actions,
        import_export_routes,
        templates,
        counters,
        denied_clients,
        tenants,
        api_keys,
        audit,
        ops_routes,
        swagger_ui,
    ):
        extensions.api.register_blueprint(routes.blueprint)
    cli.init_app(app, settings)
    return app


def _no_database() -> NoReturn:
    from app.config import NO_DATABASE
    from app.environment import SettingsError

    raise SettingsError(NO_DATABASE)
