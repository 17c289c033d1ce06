"""One run at a time on a DATA_DIR."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from devstack import StartError
from devstack.admin_key import admin_key
from devstack.run_lock import locked_data_dir
from devstack.socket_dir import make_runtime_directory

HOLDER = "import fcntl, sys, time; fcntl.flock(0, fcntl.LOCK_EX); print('held', flush=True); time.sleep(60)"


def test_a_second_run_is_refused_with_a_line(tmp_path: Path) -> None:
    with locked_data_dir(tmp_path / "data", time.sleep) as (_, sockets):
        assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
        assert sockets.is_dir()
        with (
            pytest.raises(StartError, match=rf"data is in use by process {os.getpid()}: stop that first"),
            locked_data_dir(tmp_path / "data", time.sleep),
        ):
            pass
    assert not sockets.exists()


def test_the_next_run_waits_for_what_a_killed_one_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The lock is still held, by a program of the killed run, but the process that took it is gone."""
    gone = subprocess.Popen(["/bin/sh", "-c", ":"])
    gone.wait()
    left = make_runtime_directory()
    lock = tmp_path / "run.lock"
    lock.write_text(json.dumps({"pid": gone.pid, "sockets": str(left)}))
    with lock.open("r+") as file:
        process = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=file, stdout=subprocess.PIPE)
    with process as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        timer = threading.Timer(0.3, holder.send_signal, (signal.SIGKILL,))
        timer.start()
        with locked_data_dir(tmp_path, time.sleep):
            assert holder.wait(5) == -signal.SIGKILL
        timer.join()
    assert not left.exists()
    assert "waiting until programs of an earlier, killed run have stopped" in capsys.readouterr().out


def test_a_note_cannot_make_it_remove_anything_else(tmp_path: Path) -> None:
    precious = tmp_path / "rl-precious"
    precious.mkdir()
    (tmp_path / "run.lock").write_text(json.dumps({"pid": 0, "sockets": str(precious)}))
    with locked_data_dir(tmp_path, time.sleep):
        pass
    assert precious.exists()


def test_the_admin_key_is_kept_and_private(tmp_path: Path) -> None:
    path = tmp_path / "admin.key"
    path.touch()  # as an interrupted first start might leave it
    key = admin_key(path)
    assert key.startswith("rl_")
    assert len(key) > 40
    assert admin_key(path) == key
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_directory_that_cannot_be_made_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StartError, match=rf"^DATA_DIR={tmp_path}/file/data: allowed is a directory .* \(Not a dir"),
        locked_data_dir(tmp_path / "file" / "data", time.sleep),
    ):
        pass
