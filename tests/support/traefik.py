"""The real Traefik with traefik.yml and deploy/traefik/ as they are, but for the addresses in them."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import requests

from tests.support.front import program
from tests.support.node import ROOT, free_port

STATIC, DYNAMIC = ROOT / "traefik.yml", ROOT / "deploy/traefik"
START_SECONDS, STOP_SECONDS = 30, 20
NOT_YET = 404  # it listens before it knows its routes


class Traefik:
    """In front of one to three servers on `ports`, from entry to exit.

    `port` is the entry point of checks, `admin` and `internal` are the others. `log` has errors of the configuration.
    """

    def __init__(self, directory: Path, ports: Sequence[int]) -> None:
        self._servers = [f"http://127.0.0.1:{port}" for port in ports]
        self.port, self.admin, self.internal = free_port(), free_port(), free_port()
        self.log = directory / "traefik.log"
        self._directory = directory

    def __enter__(self) -> Self:
        self._write_configuration()
        environment = {"PATH": os.environ["PATH"], "HOME": str(self._directory)}
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                [program("traefik"), "--configfile=here.yml"],
                cwd=self._directory,
                env=environment,
                stdout=output,
                stderr=output,
            )
        if not self.eventually(self._routes):
            self.__exit__()
            raise AssertionError(f"Traefik did not start:\n{self.log.read_text()}")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def request(self, method: str, path: str, *, port: int | None = None, **content: Any) -> requests.Response:
        """To the entry point of checks, or another one."""
        return requests.request(method, f"http://127.0.0.1:{port or self.port}{path}", timeout=20, **content)

    def up(self, service: str = "checks") -> list[bool]:
        """Of each server, in order, whether it gets requests (by its metric; until the first probe it does)."""
        metrics = self.request("GET", "/metrics", port=self.internal).text
        series = rf'^traefik_service_server_up{{service="{service}@file",url="(.*)"}} (\d)'
        found = dict(re.findall(series, metrics, re.MULTILINE))
        return [found.get(server, "1") == "1" for server in self._servers]

    def eventually(self, holds: Callable[[], bool], seconds: float = START_SECONDS) -> bool:
        """Whether the condition comes true within the bound, while Traefik runs."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(requests.ConnectionError):
                if holds():
                    return True
            time.sleep(0.02)
        return False

    def _routes(self) -> bool:
        ping = self.request("GET", "/ping", port=self.internal).status_code
        return ping == 200 and self.request("GET", "/v1/check").status_code != NOT_YET

    def _write_configuration(self) -> None:
        dynamic = self._directory / "dynamic"
        dynamic.mkdir()
        ports = {"8000": self.port, "8001": self.admin, "8082": self.internal}
        here = {f'address: ":{port}"': f"address: 127.0.0.1:{free}" for port, free in ports.items()}
        here["/etc/traefik/dynamic"] = str(dynamic)
        here |= {f"http://limiter-{n + 1}:8000": self._servers[n % len(self._servers)] for n in range(3)}
        (self._directory / "here.yml").write_text(replaced(STATIC.read_text(), here))
        for file in DYNAMIC.iterdir():
            (dynamic / file.name).write_text(replaced(file.read_text(), here))


def replaced(text: str, by: dict[str, str]) -> str:
    for written, other in by.items():
        text = text.replace(written, other)
    return text
