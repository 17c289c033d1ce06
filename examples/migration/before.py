"""A shop as it was limited by flask-limiter 4: what after.py is made of."""

import os

from flask import Blueprint, Flask, jsonify, request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

PRICES = {"tea": 3, "jam": 5}


def user():
    return request.headers.get("X-User") or get_remote_address()


def plan():
    return "6/minute" if user().startswith("pro-") else "2/minute"


def failed(response):
    return response.status_code == 401


app = Flask(__name__)
limiter = Limiter(
    user,
    app=app,
    default_limits=["3/minute"],
    storage_uri=os.environ.get("STORAGE_URI", "memory://"),
    strategy="fixed-window",
)
writes = limiter.shared_limit("6/minute", scope="writes")
items = Blueprint("items", __name__, url_prefix="/items")


@app.get("/")
def index():
    return "hello"


@app.get("/about")
def about():
    return "a shop"


@app.get("/health")
@limiter.exempt
def health():
    return "ok"


@app.post("/login")
@limiter.limit("7/minute", key_func=get_remote_address, deduct_when=failed)
@limiter.limit("3/minute", key_func=lambda: request.form["name"].strip().casefold(), deduct_when=failed)
def login():
    if request.form["password"] != "right":  # noqa: S105  a shop of examples
        return "wrong", 401
    return "welcome"


@app.get("/me")
@limiter.limit(plan)
def me():
    return user()


@app.get("/search")
@limiter.limit("2/minute;30/hour")
def search():
    return request.args["q"]


@app.post("/orders")
@writes
def order():
    return "ordered", 201


@app.delete("/orders/<int:number>")
@writes
def cancel(number):
    return f"cancelled {number}"


@app.get("/export")
@limiter.limit("12/hour", cost=lambda: int(request.args["months"]))
def export():
    return "an export"


@app.get("/stats")
@limiter.limit("2/minute", exempt_when=lambda: "X-Internal" in request.headers)
def stats():
    return "figures"


@app.route("/comments", methods=["GET", "POST"])
@limiter.limit("2/minute", methods=["POST"])
def comments():
    return "comments"


@items.get("/<name>")
def item(name):
    return jsonify(PRICES[name])


@items.get("/")
def all_items():
    return jsonify(PRICES)


limiter.limit("4/minute")(items)
app.register_blueprint(items)


@app.errorhandler(429)
def slow_down(_error):
    return "slow down", 429
