"""docker-compose.yml without Docker: the commands of its services, with their environment, secrets and configurations.

What stands for paths, addresses and ports of containers on this machine is a table of words, and nothing else changes.
"""

from __future__ import annotations

import compileall
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Self

from tests.support.front import program
from tests.support.node import ROOT
from tests.support.traefik import replaced

DOCKERFILE = (ROOT / "Dockerfile").read_text()
LEFT_OUT = ("**/__pycache__",)  # of the image, by .dockerignore
START_SECONDS = 60


@cache
def composition() -> dict[str, Any]:
    """The file with all profiles, as docker-compose itself understands it."""
    command = [program("docker-compose"), "--profile", "*", "config", "--format", "json"]
    environment = {"PATH": os.environ["PATH"]}
    said = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def image_command(instruction: str) -> list[str]:
    """Of the instruction CMD, or of that of HEALTHCHECK."""
    after = "HEALTHCHECK .*\\\\\n  CMD" if instruction == "HEALTHCHECK" else "CMD"
    [command] = re.findall(rf"^{after} (\[.*\])$", DOCKERFILE, re.MULTILINE)
    words: list[str] = json.loads(command)
    return words


def copy_image(directory: Path) -> None:
    """What COPY puts into the image's working directory, less what .dockerignore leaves out; compiled, as there."""
    assert set(LEFT_OUT) <= set((ROOT / ".dockerignore").read_text().split())
    directory.mkdir()
    copied = re.findall(r"^COPY (?!--from|requirements)(.*)$", DOCKERFILE, re.MULTILINE)
    for *sources, target in map(str.split, copied):
        for source in map(ROOT.joinpath, sources):
            if source.is_dir():
                ignored = shutil.ignore_patterns(*(Path(path).name for path in LEFT_OUT))
                shutil.copytree(source, directory / target, ignore=ignored)
            else:
                shutil.copy(source, directory / target)
    assert "compileall -q app\n" in DOCKERFILE
    compileall.compile_dir(directory / "app", quiet=1)


class Container:
    """A service as a process, from entry to exit, with what it writes to in `directory`.

    `secrets` are the made ones, `image` the directory of the image's files, `words` what to replace in commands,
    values, secrets and configurations. `settings` are added to `environment`.
    """

    def __init__(
        self, name: str, directory: Path, *, secrets: Path, image: Path, words: dict[str, str], **settings: Any
    ) -> None:
        service = composition()["services"][name]
        (directory / "data").mkdir(parents=True)
        self.log = directory / "log"
        self._ours = service["image"] == "ratelimiter"
        self._cwd = image if self._ours else directory
        files = self._files(service, directory, secrets)
        self._words = files | {"/data": str(directory / "data"), "0.0.0.0": "127.0.0.1"} | words
        for file in files.values():
            Path(file).write_text(self._local(Path(file).read_text()))
        own = re.findall(r"(\w+)=(\S+)", re.findall(r"^ENV (.*)$", DOCKERFILE, re.MULTILINE)[0]) if self._ours else []
        given = dict(own) | service.get("environment", {})
        given.pop("PATH", None)
        self.environment = {name: self._local(value) for name, value in given.items()}
        self.environment |= {"PATH": os.environ["PATH"]} | {name: str(value) for name, value in settings.items()}
        self.command = [self._local(word) for word in service["command"] or image_command("CMD")]
        self.stop_seconds = float(service["stop_grace_period"].removesuffix("s"))

    @staticmethod
    def _files(service: dict[str, Any], directory: Path, secrets: Path) -> dict[str, str]:
        """Copies of the secrets and configurations the service is given, by the path that it knows."""
        copies = {}
        for kind in ("secrets", "configs"):
            for entry in service.get(kind, []):
                source = Path(composition()[kind][entry["source"]]["file"])
                source = secrets / source.name if kind == "secrets" else source
                at = str(Path("/run/secrets", entry["target"]))
                copies[at] = str(shutil.copy(source, directory / f"{kind}-{Path(at).name}"))
                Path(copies[at]).chmod(0o600)
        return dict(sorted(copies.items(), reverse=True))  # a longer name before one that it begins with

    def _local(self, text: str) -> str:
        return replaced(text, self._words)

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        if self._ours:  # the virtual environment of the image is the one this runs in
            command = [sys.executable, *(["-m", *command] if command[0] != "python" else command[1:])]
        with self.log.open("ab") as log:
            return subprocess.Popen(command, cwd=self._cwd, env=self.environment, stdout=log, stderr=log)

    def run(self, command: list[str] | None = None) -> int:
        """Another command of it, or its own, to its end; the exit code."""
        return self._start(command or self.command).wait(START_SECONDS)

    def __enter__(self) -> Self:
        self._process = self._start(self.command)
        return self

    def stop(self) -> int:
        """As `docker stop`: SIGTERM, and the exit code, if that comes within stop_grace_period."""
        self._process.terminate()
        return self._process.wait(self.stop_seconds)

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def await_ready(self, ready: Callable[[], bool]) -> Self:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError):
                if ready():
                    return self
            time.sleep(0.05)
        raise AssertionError(f"{self.command}:\n{self.log.read_text()}")
