"""HTTP as bytes on a socket, for requests that no client library would send; and what an error must look like."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import dataclass
from typing import Any, Protocol

from requests.structures import CaseInsensitiveDict

HOST = b"Host: limiter.test\r\n"
JSON = b"Content-Type: application/json\r\n"
CLOSE = b"Connection: close\r\n"
PROBLEM = "application/problem+json"


class Answer(Protocol):
    """What `requests` and this module both give."""

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> CaseInsensitiveDict[str]: ...
    def json(self) -> Any: ...


@dataclass(frozen=True)
class RawAnswer:
    """The first answer in `raw`, and everything after its head as `content`."""

    raw: bytes

    @property
    def status_code(self) -> int:
        return statuses(self.raw)[0]

    @property
    def headers(self) -> CaseInsensitiveDict[str]:
        lines = self.raw.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
        return CaseInsensitiveDict((name, value) for name, _, value in (line.partition(": ") for line in lines))

    @property
    def content(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[2]

    def json(self) -> Any:
        return json.loads(self.content)


def post(path: str, body: bytes, *headers: bytes, length: int | None = None) -> bytes:
    """A POST of JSON with a Content-Length, which is the body's unless `length` lies about it."""
    announced = b"Content-Length: %d\r\n" % (len(body) if length is None else length)
    return request(f"POST {path}", JSON, announced, *headers, body=body)


def request(method_and_path: str, *headers: bytes, body: bytes = b"") -> bytes:
    """A request as bytes. `headers` are whole lines."""
    return method_and_path.encode() + b" HTTP/1.1\r\n" + HOST + b"".join(headers) + b"\r\n" + body


def exchange(port: int, sent: bytes, *, end: bool = False, seconds: float = 15) -> RawAnswer:
    """Send, and read until the server closes. `end` half-closes after sending: no byte will follow.

    TimeoutError where the server does not close in time; ConnectionError where it resets the connection.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(sent)
        if end:
            connection.shutdown(socket.SHUT_WR)
        received = bytearray()
        while chunk := connection.recv(65536):
            received += chunk
    return RawAnswer(bytes(received))


def statuses(raw: bytes) -> list[int]:
    """The status of every answer in the bytes."""
    return [int(number) for number in re.findall(rb"HTTP/1\.[01] (\d{3}) ", raw)]


def problem_of(answer: Answer, status: int) -> dict[str, Any]:
    """The problem document of an error answer. Fails where it is not one of that status."""
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == PROBLEM
    problem: dict[str, Any] = answer.json()
    assert set(problem) - {"errors"} == {"type", "title", "status", "detail", "correlation_id"}
    assert problem["status"] == status
    assert problem["correlation_id"] == answer.headers["X-Correlation-ID"]
    assert all(isinstance(problem[name], str) and problem[name] for name in ("type", "title", "detail"))
    assert ("errors" in problem) == (status == 422)
    return problem
