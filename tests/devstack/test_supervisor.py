"""Whatever ends a starter, what it started ends too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from devstack.processes.supervised import Program, Supervised
from devstack.service import ROOT
from tests.devstack.processes import becomes_true, ends, parent_of, runs

SLEEP = (sys.executable, "-I", "-S", "-c", "import time; print('up', flush=True); time.sleep(60)")
STUBBORN = (
    *SLEEP[:4],
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)",
)


def guarded(tmp_path: Path, argv: tuple[str, ...] = SLEEP, grace_seconds: float = 10) -> Supervised:
    """A guarded program that is past its start."""
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = Supervised(Program(name="test", argv=argv, grace_seconds=grace_seconds, output=output.fileno()))
    assert becomes_true(lambda: log.read_text().startswith("up"))
    return process


def test_stop_sends_the_stop_signal(tmp_path: Path) -> None:
    process = guarded(tmp_path)
    process.stop()
    assert process.exit_code() == 128 + signal.SIGTERM
    assert not runs(process.pid)


def test_what_does_not_stop_in_time_is_killed(tmp_path: Path) -> None:
    process = guarded(tmp_path, STUBBORN, grace_seconds=0.2)
    process.stop()
    assert process.exit_code() == 128 + signal.SIGKILL


def test_a_suspended_program_stops(tmp_path: Path) -> None:
    process = guarded(tmp_path)
    os.kill(process.pid, signal.SIGSTOP)
    process.stop()
    assert process.exit_code() == 128 + signal.SIGTERM


def test_the_exit_code_is_passed_on() -> None:
    process = Supervised(Program(name="test", argv=("/bin/sh", "-c", "exit 7")))
    assert process.wait(10) == 7
    process.stop()


def test_a_program_that_cannot_run_says_so_in_its_output(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as output:
        process = Supervised(Program(name="test", argv=(str(tmp_path / "missing"),), output=output.fileno()))
    assert process.wait(10) == 127
    process.stop()
    assert "missing" in (tmp_path / "log").read_text()


def test_children_of_a_killed_program_are_killed_too(tmp_path: Path) -> None:
    process = guarded(tmp_path, ("/bin/sh", "-c", "echo up; sleep 60 & echo $!; wait"))
    assert becomes_true(lambda: len((tmp_path / "log").read_text().split()) == 2)
    child = int((tmp_path / "log").read_text().split()[1])
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(10) == 128 + signal.SIGKILL
    process.stop()
    assert ends(child)


STARTER = """
import os, sys, time
from devstack.processes.supervised import Supervised, Program
argv = tuple(sys.argv[2:])
first = Supervised(Program(name="first", argv=argv))
second = Supervised(Program(name="second", argv=argv, guard_holds=(first.channel,)))
if sys.argv[1] == "a later one":
    first.stop()
    first = Supervised(Program(name="first", argv=argv))
    second.hold(first.channel)
print(first.pid, second.pid, os.getsid(second.pid) != os.getsid(0), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("needed", ["the first one", "a later one"])
def test_a_killed_starter_takes_its_programs_along_and_the_one_that_others_need_goes_last(needed: str) -> None:
    argv = [sys.executable, "-c", STARTER, needed, *SLEEP[:4], "import time; time.sleep(60)"]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        first, second, own_session = starter.stdout.readline().split()
        assert own_session == "True"  # a Ctrl-C in the starter's terminal does not reach them
        os.kill(int(second), signal.SIGSTOP)
        os.kill(parent_of(int(second)), signal.SIGSTOP)
        starter.kill()
    time.sleep(0.3)
    assert runs(int(first))
    os.kill(parent_of(int(second)), signal.SIGCONT)
    assert ends(int(second))
    assert ends(int(first))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux stops a program when its guard is killed")
def test_a_killed_guard_takes_its_program_along(tmp_path: Path) -> None:
    process = guarded(tmp_path)
    os.kill(parent_of(process.pid), signal.SIGKILL)
    assert ends(process.pid)
    process.stop()
