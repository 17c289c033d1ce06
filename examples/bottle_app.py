"""Bottle: the middleware around the application."""

import os

import bottle
from ratelimiter_client import RateLimiter, RateLimitMiddleware

app = bottle.Bottle()


def hello() -> str:
    return "hello\n"


app.route(["/", "/health"], callback=hello)

client = RateLimiter(os.environ.get("RATELIMITER_URL", "http://127.0.0.1:8000"))
application = RateLimitMiddleware(app, client, trusted_proxies=["127.0.0.1"], exempt=["/health"])

if __name__ == "__main__":
    bottle.run(application, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
