"""Checks without pause while something else happens, and what came of them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, Self

import requests

from tests.support.node import Node


@dataclass
class Load:
    """One thread per node sends the same check again and again, from entry to exit. Nothing is asserted here."""

    nodes: list[Node]
    check: dict[str, Any]
    answers: list[requests.Response] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(node,)) for node in self.nodes]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _send(self, node: Node) -> None:
        with requests.Session() as session:
            while not self._stop.is_set():
                try:
                    self.answers.append(session.post(f"{node.url}/v1/check", json=self.check, timeout=30))
                except requests.RequestException as error:
                    self.errors.append(error)

    @property
    def statuses(self) -> set[int]:
        return {answer.status_code for answer in self.answers}
