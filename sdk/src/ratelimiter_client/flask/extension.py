"""The Flask extension."""

from __future__ import annotations

from typing import Any, Callable, Iterable, TypeVar, Union
from weakref import WeakKeyDictionary

from flask import Blueprint, Flask, Response, current_app, has_app_context, has_request_context, request

from ratelimiter_client import arguments
from ratelimiter_client.arguments import FailMode
from ratelimiter_client.decision import Decision
from ratelimiter_client.errors import RateLimited
from ratelimiter_client.flask.command import commands
from ratelimiter_client.flask.errors import error_of
from ratelimiter_client.flask.limits import Breach, Message, OnBreach, Outer, ViewLimit
from ratelimiter_client.undecided import OnUndecided
from ratelimiter_client.unnamed import DEFAULT_KEY
from ratelimiter_client.web.charges import RECORD, Charges
from ratelimiter_client.web.denials import denial_headers
from ratelimiter_client.web.exempting import Exempt
from ratelimiter_client.web.gate import DECISION, Cost, Gate, Limit, Limiter, Limits, Many, What, Who
from ratelimiter_client.web.settings import configured
from ratelimiter_client.web.views import exempted, own

F = TypeVar("F", bound=Union[Callable[..., Any], Blueprint])

PREFIX = "RATELIMITER_"
OWN = ("all_requests", "error_message", "key_func", "on_breach")
# In the environ: the limits of views already asked, and whether this extension adds the decision's headers.
MET, HEADERS = "ratelimiter.met", "ratelimiter.headers"


class Settings:
    """The settings of one application."""

    def __init__(self, given: dict[str, Any]) -> None:
        settings = dict(given)
        if settings.pop("key_func", None) is not None:
            both = settings.get("identify") is not None
            arguments.refuse_unless(not both, "key_func", given["key_func"], "either this or identify")
            settings["identify"] = arguments.who(given["key_func"], "key_func")
        # A gate refuses an empty list, with which it would limit nothing.
        only_views = settings.get("limits") in ((), [])
        if only_views:
            del settings["limits"]
        self.gate: Gate = configured(settings, OWN)
        if only_views:
            self.gate.limits = []
        self.breach: Breach = Breach.made(settings.get("error_message"), settings.get("on_breach"))
        self.all_requests: bool = settings.get("all_requests", False)


class RateLimits:
    """Limits requests of Flask applications. Each argument but `app` may be in `app.config` instead, in capitals behind
    RATELIMITER_: RATELIMITER_URL, RATELIMITER_LIMIT_KEY, ….

    The arguments are those of RateLimiter and of Gate, and three more. `key_func` is another name of `identify`.
    `on_breach` is called with each denial; its result, if any, is the answer. `error_message` is text or a function.
    `all_requests=True` also counts static files, unknown paths, and OPTIONS that Flask answers by itself.

    `limits=()` limits only views and blueprints that have limits. A denial is the HTTP error 429, or 503 where
    fail mode "closed" denies. Its body is a problem document, unless the application has an error handler for it.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        client: Limiter | None = None,
        url: str | None = None,
        api_key: str | None = None,
        timeout: float | None = None,
        fail_mode: FailMode | None = None,
        retry: bool | None = None,
        ca_file: str | None = None,
        max_idle_connections: int | None = None,
        on_undecided: OnUndecided = None,
        identify: Who = None,
        key_func: Who = None,
        limit_key: What | None = None,
        limits: Limits | None = None,
        cost: Cost | None = None,
        groups: Many = None,
        trusted_proxies: Iterable[str] | None = None,
        exempt: Exempt | None = None,
        enabled: bool | None = None,
        on_breach: OnBreach | None = None,
        error_message: Message | None = None,
        all_requests: bool | None = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "app")}
        self._options = {name: value for name, value in given.items() if value is not None}
        self._settings: WeakKeyDictionary[Flask, Settings] = WeakKeyDictionary()
        self._outer = Outer()
        self._filters: list[Callable[..., Any]] = []
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Limit this application. Raises TypeError or ValueError for wrong settings."""
        self._settings[app] = Settings({**app.config.get_namespace(PREFIX), **self._options})
        app.extensions["ratelimiter"] = self
        app.before_request(self._before)
        app.after_request(_after)
        app.teardown_request(_without_answer)
        app.register_error_handler(RateLimited, _denied_elsewhere)
        app.cli.add_command(commands(self._limits_of))

    def limit(
        self,
        limit_key: What = DEFAULT_KEY,
        identify: Who = None,
        *,
        key_func: Who = None,
        cost: Cost | None = None,
        groups: Many = None,
        methods: Iterable[str] | None = None,
        exempt_when: Callable[..., Any] | None = None,
        deduct_when: Callable[[Response], Any] | None = None,
        override_defaults: bool = True,
        on_breach: OnBreach | None = None,
        error_message: Message | None = None,
    ) -> ViewLimit:
        """A limit for a view (a decorator, below that of the route), a blueprint, or a `with` block in a view.

        It replaces the limits of the application or the blueprint, unless `override_defaults=False`: then both hold.
        `identify` (or `key_func`), `cost`, `groups`: by default the app's. Functions are given the environ, or nothing.

        `methods`: the HTTP methods to limit. `exempt_when`: requests for which it returns true are not limited.
        `deduct_when`: a request is charged only if it returns true for the answer; until then the units are held.
        Raises TypeError or ValueError.
        """
        return ViewLimit(
            self._enforce,
            Limit(
                arguments.who(identify if key_func is None else key_func),
                arguments.what(limit_key),
                None if cost is None else arguments.units(cost),
                arguments.function("deduct_when", deduct_when, "a function of the response", None),
                arguments.groups(groups),
            ),
            of_blueprint=lambda blueprint, limit: self._outer.blueprints.setdefault(blueprint, []).append(limit),
            methods=methods,
            exempt_when=exempt_when,
            override_defaults=override_defaults,
            breach=Breach.made(error_message, on_breach),
        )

    def exempt(self, view: F) -> F:
        """A decorator of views, or a call for a blueprint: the application's limits do not hold for it, its own do."""
        if isinstance(view, Blueprint):
            self._outer.exempt.add(view)
            return view  # pyright: ignore[reportReturnType]
        return exempted(view)  # type: ignore[no-any-return]

    def request_filter(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A decorator: requests for which the function, of the environ or of nothing, returns true are not limited."""
        self._filters.append(arguments.of_environ(function, "request_filter"))
        return function

    def check(
        self, limit_key: What = DEFAULT_KEY, identify: Who = None, cost: Cost | None = None, *, groups: Many = None
    ) -> Decision | None:
        """Charge within a view. Each call charges, whatever was charged before. Returns None where the request is not
        limited.

        A denial is raised, as that of any limit.
        """
        Charges.of(request.environ).forget()
        limit = Limit(arguments.who(identify), arguments.what(limit_key), cost, groups=arguments.groups(groups))
        return self._decide([limit], Breach())

    @property
    def current_limit(self) -> Decision | None:
        """The tightest decision on this request: the denial, else the one with the least left."""
        return request.environ.get(DECISION) if has_request_context() else None

    @property
    def current_limits(self) -> list[Decision]:
        """All decisions on this request, in their order."""
        return list(Charges.of(request.environ).decisions) if has_request_context() else []

    @property
    def client(self) -> Limiter:
        """The client that decides. It may be replaced at any time, as by tests."""
        return self._here().gate.client

    @client.setter
    def client(self, client: Limiter) -> None:
        self._options["client"] = client
        for settings in self._settings.values():
            settings.gate.client = client

    @property
    def enabled(self) -> bool:
        """Whether any request is limited; it may be set at any time."""
        return self._here().gate.enabled

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        self._options["enabled"] = enabled
        for settings in self._settings.values():
            settings.gate.enabled = enabled

    def _here(self) -> Settings:
        """The settings of the current application, or of the only one. Raises RuntimeError without one."""
        app = current_app._get_current_object() if has_app_context() else None  # type: ignore[attr-defined]
        known = list(self._settings) if app is None else [app]
        found = self._settings.get(known[0]) if len(known) == 1 else None
        if found is None:
            raise RuntimeError("init_app was not called")
        return found

    def _limits_of(self, app: Flask, endpoint: str, method: str) -> tuple[Gate, list[Limit]]:
        """The gate, and the limits that hold for a view, in the order in which they are asked."""
        settings = self._settings[app]
        if _is_static(app, endpoint) and not settings.all_requests:
            return settings.gate, []
        names = endpoint.rpartition(".")[0].split(".") if "." in endpoint else []
        blueprints = [".".join(names[:number]) for number in range(len(names), 0, -1)]
        has_default, outer = self._outer.of(app, endpoint, blueprints, method)
        limits = [limit.limit for limit in (*outer, *own(app.view_functions[endpoint], method))]
        return settings.gate, (settings.gate.limits if has_default else []) + limits

    def _before(self) -> None:
        settings = self._here()
        app = current_app._get_current_object()  # type: ignore[attr-defined]
        if not settings.all_requests and not _is_counted(app):
            return
        has_default = True
        limits: list[ViewLimit] = []
        if request.endpoint is not None:
            has_default, limits = self._outer.of(app, request.endpoint, request.blueprints, request.method)
        if has_default and settings.gate.limits:
            self._decide(settings.gate.limits, Breach())
        for limit in limits:
            self._enforce(limit)

    def _enforce(self, limit: ViewLimit) -> None:
        met = request.environ.setdefault(MET, [])
        if limit in met:  # a function that is called again is charged again
            Charges.of(request.environ).forget()
        met.append(limit)
        if limit.holds():
            self._decide([limit.limit], limit.breach)

    def _decide(self, limits: list[Limit], breach: Breach) -> Decision | None:
        settings = self._here()
        if any(is_free(request.environ) for is_free in self._filters):
            return None
        decision = settings.gate.decide(request.environ, limits)
        request.environ[HEADERS] = True
        if decision is None or decision.allowed:
            return decision
        message = breach.error_message or settings.breach.error_message
        on_breach = breach.on_breach or settings.breach.on_breach
        response = None if on_breach is None else on_breach(decision)
        response = None if response is None else current_app.make_response(response)
        raise error_of(decision, message() if callable(message) else message, response)


def _is_counted(app: Flask) -> bool:
    """False for requests that run none of the application's own code."""
    endpoint = request.endpoint
    if endpoint is None:
        return False
    rule: Any = request.url_rule
    if request.method == "OPTIONS" and getattr(rule, "provide_automatic_options", False):
        return False
    return not _is_static(app, endpoint)


def _is_static(app: Flask, endpoint: str) -> bool:
    of, _, name = endpoint.rpartition(".")
    owner: Any = app.blueprints.get(of) if of else app
    return name == "static" and owner is not None and bool(owner.has_static_folder)


def _after(response: Response) -> Response:
    environ = request.environ
    decision = environ.get(DECISION) if HEADERS in environ else None
    if RECORD in environ:
        Charges.of(environ).settle(response)
    if decision is not None:
        for name, value in decision.headers if decision.allowed else denial_headers(decision, environ):
            response.headers[name] = value
    return response


def _without_answer(_error: BaseException | None) -> None:
    """An exception of a view went on to the server, as in tests: it is a 500 then."""
    if RECORD in request.environ:
        Charges.of(request.environ).settle(Response(status=500))


def _denied_elsewhere(error: RateLimited) -> Any:
    """Answers a denial by a client's decorator, in a view."""
    request.environ.update({DECISION: error.decision, HEADERS: True})
    return current_app.handle_http_exception(error_of(error.decision, None))
