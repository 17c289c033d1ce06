"""Flask: the extension limits every request, and log-ins also by the account name."""

import os

from flask import Flask, request
from ratelimiter_client.flask import RateLimits

app = Flask(__name__)
app.config.update(
    RATELIMITER_URL=os.environ.get("RATELIMITER_URL", "http://127.0.0.1:8000"),
    RATELIMITER_TRUSTED_PROXIES=["127.0.0.1"],
    RATELIMITER_EXEMPT=["/health"],
)
limits = RateLimits(app)


@app.get("/")
@app.get("/health")
def hello() -> str:
    return "hello\n"


@app.post("/login")
@limits.limit("login", identify=lambda environ: request.form["user"].strip().casefold(), override_defaults=False)
def login() -> str:
    return "welcome\n"


if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "8080")))
