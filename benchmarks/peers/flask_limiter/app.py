"""flask-limiter on Redis, as its documentation shows it; the JSON body names the client."""

from __future__ import annotations

import os

from flask import Flask, Response, jsonify, request
from flask_limiter import Limiter


def client_id() -> str:
    return request.get_json()["client_id"]


app = Flask(__name__)
limiter = Limiter(client_id, app=app, storage_uri=os.environ["REDIS_URL"], strategy="fixed-window")


@app.post("/v1/check")
@limiter.limit("1000000 per hour")
def check() -> Response:
    return jsonify(allowed=True)
