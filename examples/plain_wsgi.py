"""A plain WSGI application, limited by two lines: `client = …` and `application = RateLimitMiddleware(…)`."""

import os
from typing import Any
from wsgiref.simple_server import make_server

from ratelimiter_client import RateLimiter, RateLimitMiddleware


def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello\n"]


client = RateLimiter(os.environ.get("RATELIMITER_URL", "http://127.0.0.1:8000"))
application = RateLimitMiddleware(hello, client, trusted_proxies=["127.0.0.1"], exempt=["/health"])

if __name__ == "__main__":
    make_server("127.0.0.1", int(os.environ.get("PORT", "8080")), application).serve_forever()
