"""A program under a guard: it ends when this process ends, for whatever reason."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from devstack.errors import StartError
from devstack.processes.identity import OWN, Identity

SUPERVISOR = Path(__file__).with_name("supervisor.py")
STOP, HOLD = b"\0", b"\xff"
POLL_SECONDS = 0.02
MARGIN_SECONDS = 5.0  # for a guard to notice the end of a killed program

Pause = Callable[[float], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """The command and the way to end it.

    `keeps`: descriptors that stay open as long as the program or its guard lives.
    """

    name: str
    argv: tuple[str, ...]
    stop_signal: signal.Signals = signal.SIGTERM
    grace_seconds: float = 10.0
    identity: Identity = OWN
    environment: Mapping[str, str] | None = None  # None: this process's environment
    directory: Path = Path("/")
    output: int | None = None  # None: this process's output
    keeps: tuple[int, ...] = ()
    guard_holds: tuple[int, ...] = ()  # as `keeps`, but for the guard only


class Supervised:
    """A running program and its guard. The constructor starts both, in a session of their own (no Ctrl-C)."""

    def __init__(self, program: Program, pause: Pause = time.sleep) -> None:
        self.program = program
        self._pause = pause
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._guard = self._start_guard(theirs.fileno())
        if program.guard_holds:
            self.hold(*program.guard_holds)
        self.pid = self._program_pid()

    @property
    def channel(self) -> int:
        """The program lives as long as any process has this descriptor open."""
        return self._channel.fileno()

    def exit_code(self) -> int | None:
        """None while it runs; 128 + n after signal n."""
        return self._guard.poll()

    def send(self, number: int) -> None:
        """Signals the program; has no effect once it has ended."""
        self._send_order(bytes([number]))

    def hold(self, *descriptors: int) -> None:
        """Makes its guard hold these descriptors open from now on, in place of `guard_holds`."""
        with contextlib.suppress(OSError):  # as in _tell
            socket.send_fds(self._channel, [HOLD], descriptors)

    def wait(self, seconds: float) -> int | None:
        """Returns its exit code, or None if it still runs after that time."""
        deadline = time.monotonic() + seconds
        while (code := self._guard.poll()) is None and time.monotonic() < deadline:
            self._pause(POLL_SECONDS)
        return code

    def stop(self) -> None:
        """Ends the program: its stop signal, then SIGKILL after the grace time. Safe if it has ended."""
        self._send_order(STOP)
        self.wait(self.program.grace_seconds + MARGIN_SECONDS)
        self._release()

    def kill(self) -> None:
        """Ends the program and its children at once."""
        self._send_order(bytes([signal.SIGKILL]))
        self._release()

    def _start_guard(self, descriptor: int) -> subprocess.Popen[bytes]:
        program = self.program
        order = {
            "channel": descriptor,
            "stop_signal": program.stop_signal,
            "grace_seconds": program.grace_seconds,
            "identity": dataclasses.asdict(program.identity),
            "argv": program.argv,
        }
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(SUPERVISOR), json.dumps(order)],
            stdin=subprocess.DEVNULL,
            stdout=program.output,
            stderr=None if program.output is None else subprocess.STDOUT,
            cwd=program.directory,
            env=program.environment,
            pass_fds=(descriptor, *program.keeps),
            start_new_session=True,
        )

    def _program_pid(self) -> int:
        line = b""
        while not line.endswith(b"\n"):
            part = self._channel.recv(32)
            if not part:
                self._release()
                raise StartError(f"{self.program.name} could not be started: its guard ended")
            line += part
        return int(line)

    def _send_order(self, order: bytes) -> None:
        with contextlib.suppress(OSError):  # the guard has ended, and with it the program
            self._channel.sendall(order)

    def _release(self) -> None:
        """Releases a guard that has ended or is about to; kills a hanging one with its program."""
        try:
            self._guard.wait(MARGIN_SECONDS)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        self._channel.close()
