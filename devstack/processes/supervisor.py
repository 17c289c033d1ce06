"""Runs one program and ensures that it never outlives the process that requested it.

    python -I -S supervisor.py '{"channel": 5, "stop_signal": 15, "grace_seconds": 9, "identity": …, "argv": …}'

`channel` is one end of a socket pair. The guard writes the program's pid to it, then reads orders. A byte n means "send
it signal n"; 0 means "stop it". 255 comes with descriptors to hold open, in place of those held so far. The end of the
stream means that the holder of the other end has ended, perhaps killed, which also means "stop it".

Stopping means `stop_signal`, then SIGKILL after `grace_seconds`. The guard ends with the program's exit code, 128 + n
after signal n.

This file imports nothing of the project, because it has to start in milliseconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

Call = Callable[..., None]
CLONE_NEWUSER = 0x10000000  # linux/sched.h
PR_SET_PDEATHSIG = 1  # linux/prctl.h
STOP, HOLD = 0, 255  # no signals have these numbers
MAX_HELD = 16
CANNOT_RUN = 127  # a shell's exit code for a program that it cannot run


def main() -> None:
    """Starts the program, waits for its end, and ends with its exit code."""
    order: dict[str, Any] = json.loads(sys.argv[1])
    channel = socket.socket(fileno=order["channel"])
    channel.set_inheritable(False)  # held by this guard, not by its program
    program = _start(order)  # before our handlers exist: a young program would inherit them, and miss its signals
    wakeup = _signals_as_bytes()
    channel.sendall(f"{program}\n".encode())
    status = _Watch(program, order["stop_signal"], order["grace_seconds"]).until_end(channel, wakeup)
    _kill_group(program)  # remaining children of a crashed program
    sys.exit(status if status >= 0 else 128 - status)


class _Watch:
    """Waits for the end of the program and for orders."""

    def __init__(self, program: int, stop_signal: int, grace_seconds: float) -> None:
        self._program = program
        self._stop_signal = stop_signal
        self._grace_seconds = grace_seconds
        self._deadline: float | None = None
        self._held: list[int] = []

    def until_end(self, channel: socket.socket, wakeup: socket.socket) -> int:
        """Returns the exit code of the program, negative if a signal ended it."""
        sources = [channel, wakeup]
        while True:
            pid, status = os.waitpid(self._program, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            ready, _, _ = select.select(sources, [], [], self._seconds_left())
            if wakeup in ready and set(wakeup.recv(512)) - {signal.SIGCHLD}:
                self._stop()
            if channel in ready and not self._obey(channel):
                sources.remove(channel)
            if self._seconds_left() == 0:
                _kill_group(self._program)
                self._deadline = None

    def _obey(self, channel: socket.socket) -> bool:
        """Carries out orders; returns whether more may come."""
        try:
            orders, descriptors, *_ = socket.recv_fds(channel, 512, MAX_HELD)
        except ConnectionError:
            orders, descriptors = b"", []
        if descriptors:
            self._hold(descriptors)
        for number in orders:
            if number == STOP:
                self._stop()
            elif number == signal.SIGKILL:
                _kill_group(self._program)
            elif number != HOLD:
                os.kill(self._program, number)
        if not orders:
            self._stop()
        return bool(orders)

    def _hold(self, descriptors: list[int]) -> None:
        for descriptor in self._held:
            os.close(descriptor)
        self._held = descriptors

    def _stop(self) -> None:
        if self._deadline is None:
            self._deadline = time.monotonic() + self._grace_seconds
            os.kill(self._program, self._stop_signal)
            os.kill(self._program, signal.SIGCONT)  # a suspended program cannot obey

    def _seconds_left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())


def _signals_as_bytes() -> socket.socket:
    """Returns a socket that receives each signal to this guard as one byte, for `select` beside the channel."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    return reader


def _start(order: dict[str, Any]) -> int:
    guard = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            _become_program(guard, order)
        except Exception as error:
            print(f"cannot run {order['argv'][0]}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(CANNOT_RUN)
    _lead_group(pid)
    return pid


def _become_program(guard: int, order: dict[str, Any]) -> None:
    _lead_group(0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)  # nohup, a shell's & and Python itself ignore some of them
    call = _libc() if sys.platform == "linux" else None  # unreadable, perhaps, after the change of identity
    _take_identity(call, **order["identity"])
    if call:  # if this guard is killed, the kernel stops the program; a change of identity would undo this
        call("prctl", PR_SET_PDEATHSIG, order["stop_signal"], 0, 0, 0)
    if os.getppid() == guard:
        os.execv(order["argv"][0], order["argv"])


def _take_identity(call: Call | None, *, kind: str, uid: int, gid: int) -> None:
    if kind == "user":
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    elif kind == "namespace" and call:
        _enter_user_namespace(call, uid, gid)


def _enter_user_namespace(call: Call, uid: int, gid: int) -> None:
    """Makes this process see itself and its files as `uid` from now on; outside, nothing changes owner."""
    outside_uid, outside_gid = os.geteuid(), os.getegid()
    call("unshare", CLONE_NEWUSER)
    for name, line in (
        ("setgroups", "deny"),  # the kernel requires it before a map of groups
        ("uid_map", f"{uid} {outside_uid} 1"),
        ("gid_map", f"{gid} {outside_gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)


def _libc() -> Call:
    """Returns a function that calls the C library by name and raises OSError on failure."""
    import ctypes  # takes milliseconds, and only the child needs it

    library = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *arguments: int) -> None:
        if getattr(library, name)(*map(ctypes.c_ulong, arguments)) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{name}: {os.strerror(number)}")

    return call


def _lead_group(pid: int) -> None:
    """Gives the program a process group, so that its children can be killed with it.

    Both processes do it, so that neither has to wait.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended, or already runs its own program
        os.setpgid(pid, pid)


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # no process is left, or (macOS) only zombies
        os.killpg(leader, signal.SIGKILL)


if __name__ == "__main__":
    main()
