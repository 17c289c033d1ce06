"""Django: a line in MIDDLEWARE, the settings in RATELIMITER."""

import os
from typing import Any
from wsgiref.simple_server import make_server

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["ratelimiter_client.django.RateLimitMiddleware"],
    RATELIMITER={
        "URL": os.environ.get("RATELIMITER_URL", "http://127.0.0.1:8000"),
        "TRUSTED_PROXIES": ["127.0.0.1"],
        "EXEMPT": ["/health"],
    },
)
django.setup()


def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse(b"hello\n", content_type="text/plain")


urlpatterns = [path("", hello), path("health", hello)]
application: Any = get_wsgi_application()

if __name__ == "__main__":
    make_server("127.0.0.1", int(os.environ.get("PORT", "8080")), application).serve_forever()
