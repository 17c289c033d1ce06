"""The real Traefik with traefik.yml and deploy/traefik/ as they are, but for addresses: nodes and ports of 127.0.0.1."""

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
import yaml

from tests.support.front import program
from tests.support.node import ROOT, free_port

STATIC, DYNAMIC = ROOT / "traefik.yml", ROOT / "deploy/traefik"
START_SECONDS, STOP_SECONDS = 30, 20
NOT_YET = 404  # it listens before it knows its routes


class Traefik:
    """In front of servers on `ports`, from entry to exit. `port` is that of checks, `admin` and `internal` the others'.

    Its log, `log`, has one line per error of the configuration; none is allowed at the start.
    """

    def __init__(self, directory: Path, ports: Sequence[int]) -> None:
        self._servers = [{"url": f"http://127.0.0.1:{port}"} for port in ports]
        self.port, self.admin, self.internal = free_port(), free_port(), free_port()
        self.log = directory / "traefik.log"
        self._directory = directory

    def __enter__(self) -> Self:
        self._write_configuration()
        environment = {"PATH": os.environ["PATH"], "HOME": str(self._directory)}
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                [program("traefik"), "--configfile=here/traefik.yml"],
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
        found = dict(
            re.findall(rf'^traefik_service_server_up{{service="{service}@file",url="(.*)"}} (\d)', metrics, re.M)
        )
        return [found.get(server["url"], "1") == "1" for server in self._servers]

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
        here = self._directory / "here"
        (here / "dynamic").mkdir(parents=True)
        static = yaml.safe_load(STATIC.read_text())
        ports = {"check": self.port, "admin": self.admin, "internal": self.internal}
        for name, entry_point in static["entryPoints"].items():
            entry_point["address"] = f"127.0.0.1:{ports[name]}"
        static["providers"]["file"]["directory"] = str(here / "dynamic")
        (here / "traefik.yml").write_text(yaml.safe_dump(static))
        for file in DYNAMIC.iterdir():
            dynamic = yaml.safe_load(file.read_text())
            for service in dynamic["http"].get("services", {}).values():
                service["loadBalancer"]["servers"] = self._servers
            (here / "dynamic" / file.name).write_text(yaml.safe_dump(dynamic))
