"""The rate limiter as a Flask application."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from flask import Flask

if TYPE_CHECKING:
    from app.config import Settings


def create_app(settings: Settings | None = None) -> Flask:
    """The application, wired but not connected: workers connect after the fork (`wiring.start_worker`).

    Its parts are imported here, not with the package: a command needs few of them.
    """
    from app import cli, extensions, wiring
    from app.api import (
        access,
        admin,
        audit,
        auth,
        authorize,
        bodies,
        browsers,
        check,
        correlation,
        counters,
        docs,
        health,
        leases,
        limited,
        problems,
        rule_actions,
        templates,
        traces,
        transfer,
    )
    from app.api.shortcut import Shortcut
    from app.cli import running
    from app.config import Settings
    from app.observability import logs
    from app.rules.sql.database.engine import ENGINE_OPTIONS, RULES_ENGINE, RULES_ENGINE_OPTIONS

    settings = settings or running.settings_of_command(Settings.from_env())
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
    app.wsgi_app = Shortcut(services.check_handler, services.authorizer, app.wsgi_app)  # type: ignore[method-assign]
    for concern in (correlation, traces, problems, bodies, auth, browsers):  # in this order each request meets them
        concern.init_app(app)
    for door in (
        check,
        authorize,
        leases,
        admin,
        rule_actions,
        transfer,
        templates,
        counters,
        limited,
        access,
        audit,
        health,
        docs,
    ):
        extensions.api.register_blueprint(door.blueprint)
    cli.init_app(app, settings)
    return app


def _no_database() -> NoReturn:
    from app.config import NO_DATABASE
    from app.environment import SettingsError

    raise SettingsError(NO_DATABASE)
