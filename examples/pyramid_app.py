"""Pyramid: the middleware around the application."""

import os
from wsgiref.simple_server import make_server

from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response
from ratelimiter_client import RateLimiter, RateLimitMiddleware


def hello(request: Request) -> Response:
    return Response("hello\n")


with Configurator() as config:
    for path in ("/", "/health"):
        config.add_route(path, path)
        config.add_view(hello, route_name=path)

client = RateLimiter(os.environ.get("RATELIMITER_URL", "http://127.0.0.1:8000"))
application = RateLimitMiddleware(config.make_wsgi_app(), client, trusted_proxies=["127.0.0.1"], exempt=["/health"])

if __name__ == "__main__":
    make_server("127.0.0.1", int(os.environ.get("PORT", "8080")), application).serve_forever()
