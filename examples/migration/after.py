"""The same shop, limited by ratelimiter_client. The figures are in rules.json, which the service imports."""

import os

from flask import Blueprint, Flask, Response, jsonify, request
from ratelimiter_client.flask import RateLimits

PRICES = {"tea": 3, "jam": 5}


def address() -> str:
    return request.remote_addr or ""


def user() -> str:
    return request.headers.get("X-User") or address()


def member() -> str:
    return f"pro:{user()}" if user().startswith("pro-") else f"free:{user()}"


def failed(response: Response) -> bool:
    return response.status_code == 401


app = Flask(__name__)
limits = RateLimits(
    app,
    url=os.environ.get("RATELIMITER_URL", "http://127.0.0.1:8000"),
    api_key=os.environ.get("RATELIMITER_API_KEY"),
    timeout=float(os.environ.get("RATELIMITER_TIMEOUT", "0.05")),
    key_func=user,
    limit_key=lambda: request.endpoint,
)
writes = limits.limit("writes")
items = Blueprint("items", __name__, url_prefix="/items")


@app.get("/")
def index() -> str:
    return "hello"


@app.get("/about")
def about() -> str:
    return "a shop"


@app.get("/health")
@limits.exempt
def health() -> str:
    return "ok"


@app.post("/login")
@limits.limit("login-by-address", key_func=address, deduct_when=failed)
@limits.limit("login-by-name", key_func=lambda: request.form["name"].strip().casefold(), deduct_when=failed)
def login() -> str | tuple[str, int]:
    if request.form["password"] != "right":  # noqa: S105  a shop of examples
        return "wrong", 401
    return "welcome"


@app.get("/me")
@limits.limit("me", key_func=member)
def me() -> str:
    return user()


@app.get("/search")
@limits.limit("search")
def search() -> str:
    return request.args["q"]


@app.post("/orders")
@writes
def order() -> tuple[str, int]:
    return "ordered", 201


@app.delete("/orders/<int:number>")
@writes
def cancel(number: int) -> str:
    return f"cancelled {number}"


@app.get("/export")
@limits.limit("export", cost=lambda: int(request.args["months"]))
def export() -> str:
    return "an export"


@app.get("/stats")
@limits.limit("stats", exempt_when=lambda: "X-Internal" in request.headers)
def stats() -> str:
    return "figures"


@app.route("/comments", methods=["GET", "POST"])
@limits.limit("new-comment", methods=["POST"])
def comments() -> str:
    return "comments"


@items.get("/<name>")
def item(name: str) -> Response:
    return jsonify(PRICES[name])


@items.get("/")
def all_items() -> Response:
    return jsonify(PRICES)


limits.limit(lambda: request.endpoint)(items)
app.register_blueprint(items)


@app.errorhandler(429)
def slow_down(_error: Exception) -> tuple[str, int]:
    return "slow down", 429
