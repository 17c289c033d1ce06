"""The services under load: ours with several settings, and the peers as their documentation recommends them."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import redis
import requests

from app.limiter.keys import CLUSTER_SLOTS
from app.rules.rule import ALGORITHMS
from benchmarks.processes import on_worker_processor, processors, running
from devstack import Postgres, Valkey, runtime_directory
from tests.conftest import create_database, flask
from tests.support.node import ROOT, Node, free_port
from tests.support.other_commits import import_path

PEERS = Path(__file__).parent / "peers"
BENCH_BIN = ROOT / ".venv-bench" / "bin"

# Units per seconds: no client reaches it within a run, and no counter expires. These are the most units for such a
# window.
AMPLE = {"rate": 9_000, "window": 1_000_000}
LIMITS = [
    *({"client_id": "*", "endpoint": name, "algorithm": name} | AMPLE for name in ALGORITHMS),
    {"client_id": "*", "endpoint": "denied"} | AMPLE | {"rate": 1},
]
ONE_RULE = [{"client_id": "*"} | AMPLE]
# Of the load's 20,000 clients, half have their own rule, and half match one of ten globs.
MANY_RULES = [
    *({"client_id": f"user_{number}"} | AMPLE for number in range(9_990)),
    *({"client_id": f"user_1{digit}*"} | AMPLE for digit in range(10)),
]
# The most that a rule may allow, so that leases never exhaust it during the measurement.
NO_LIMIT = [{"client_id": "*", "rate": 1_000_000_000, "window": 9}]
IMPORTED_AT_ONCE = 1_000


RedisOf = Callable[[Path], AbstractContextManager[tuple[str, int]]]  # argument: its data directory


class UnavailableError(Exception):
    """This machine lacks a part that a service needs."""


@dataclass(frozen=True)
class Site:
    """The surroundings of all services: a directory for their files, and shared servers."""

    home: Path
    valkey: Valkey
    postgres: Postgres


@dataclass(frozen=True)
class Service:
    """A running service. `pid` is the process that answers, or the parent of those that do."""

    port: int
    pid: int
    redis_pid: int

    def ask(self, method: str, path: str, **content: Any) -> requests.Response:
        return requests.request(method, f"http://127.0.0.1:{self.port}{path}", timeout=30, **content)


@contextlib.contextmanager
def site() -> Iterator[Site]:
    """Run everything but the services on the processor of the load from now on."""
    os.sched_setaffinity(0, {processors()[1]})
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        valkey = stack.enter_context(_valkey(home / "valkey"))
        sockets = stack.enter_context(runtime_directory())
        postgres = Postgres(data_dir=home / "postgres", socket_dir=sockets, durable=False)
        yield Site(home, valkey, stack.enter_context(postgres))


@contextlib.contextmanager
def _valkey(data_dir: Path, **options: str) -> Iterator[Valkey]:
    """Start Valkey over TCP, which all clients can use."""
    with (
        runtime_directory() as sockets,
        Valkey(data_dir=data_dir, socket_dir=sockets, durable=False, port=free_port(), options=options) as valkey,
    ):
        yield valkey


@contextlib.contextmanager
def _own(data_dir: Path) -> Iterator[tuple[str, int]]:
    """Yield URL and pid of a Redis of its own."""
    with _valkey(data_dir) as valkey:
        yield valkey.url, valkey.pid


@contextlib.contextmanager
def _cluster(data_dir: Path) -> Iterator[tuple[str, int]]:
    """Yield URL and pid of a cluster of one primary."""
    with _valkey(data_dir, **{"cluster-enabled": "yes", "cluster-port": str(free_port())}) as valkey:
        with redis.Redis.from_url(valkey.url) as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, CLUSTER_SLOTS - 1)
        yield valkey.url.replace("redis:", "redis+cluster:").removesuffix("/0"), valkey.pid


@contextlib.contextmanager
def ours(
    site: Site,
    *,
    root: Path = ROOT,
    rules: Sequence[Mapping[str, Any]] = LIMITS,
    redis_of: RedisOf | None = None,
    **settings: Any,
) -> Iterator[Service]:
    """Run a node of one worker with its own database; rules are created over HTTP.

    `root` is the tree of its code: this one, or one of another commit with packages of its own.
    """
    directory = Path(tempfile.mkdtemp(dir=site.home))
    database_url = create_database(site.postgres, directory.name)
    packages = import_path(root) if root != ROOT else {}
    flask("db", "upgrade", database_url=database_url, root=root, **packages)
    settings = {"WEB_CONCURRENCY": 1, "REDIS_TIMEOUT_MS": 2000} | packages | settings
    with contextlib.ExitStack() as stack:
        url, pid = site.valkey.url, site.valkey.pid
        if redis_of is not None:
            url, pid = stack.enter_context(redis_of(directory / "valkey"))
        node = Node(redis_url=url, database_url=database_url, data_dir=directory, root=root, **settings)
        with on_worker_processor():
            stack.enter_context(node)
        _put_rules(node, rules)
        yield Service(node.port, node.pid, pid)


def _put_rules(node: Node, rules: Sequence[Mapping[str, Any]]) -> None:
    if len(rules) <= IMPORTED_AT_ONCE:
        answers = [node.request("POST", "/v1/admin/rules", json=rule) for rule in rules]
    else:
        starts = range(0, len(rules), IMPORTED_AT_ONCE)
        parts = [{"rules": rules[start : start + IMPORTED_AT_ONCE]} for start in starts]
        answers = [node.request("POST", "/v1/admin/import", json=part) for part in parts]
    for answer in answers:
        if not answer.ok:
            raise UnavailableError(f"its rules were refused: {answer.status_code} {answer.text}")
    node.await_rules()


@contextlib.contextmanager
def _peer(site: Site, port: int, directory: Path, *command: str, **environment: str) -> Iterator[Service]:
    settings = {"PATH": os.environ["PATH"], "HOME": str(site.home), "PORT": str(port), "REDIS_URL": site.valkey.url}
    log = site.home / f"{port}.log"
    with running(command, port=port, directory=directory, environment=settings | environment, log=log) as pid:
        yield Service(port, pid, site.valkey.pid)


def _gunicorn(site: Site, name: str) -> AbstractContextManager[Service]:
    port = free_port()
    options = ("--bind", f"127.0.0.1:{port}", "--worker-class", "gevent", "--workers", "1", "--no-control-socket")
    return _peer(site, port, PEERS / name, str(BENCH_BIN / "gunicorn"), "app:app", *options)


def _uvicorn(site: Site) -> AbstractContextManager[Service]:
    port = free_port()
    options = ("--port", str(port), "--workers", "1", "--no-access-log", "--loop", "uvloop", "--http", "httptools")
    return _peer(site, port, PEERS / "seed", str(BENCH_BIN / "uvicorn"), "app:app", *options)


def _node(site: Site, **environment: str) -> AbstractContextManager[Service]:
    if not (PEERS / "node" / "node_modules").exists():
        raise UnavailableError("its packages are not installed, which takes npm")
    return _peer(site, free_port(), PEERS / "node", program("node"), "server.js", NODE_ENV="production", **environment)


def _nginx(site: Site) -> AbstractContextManager[Service]:
    executable, port = program("nginx"), free_port()
    directory = Path(tempfile.mkdtemp(dir=site.home))
    settings = (PEERS / "nginx" / "nginx.conf").read_text().replace("PORT", str(port))
    (directory / "nginx.conf").write_text(settings)
    return _peer(site, port, directory, executable, "-p", str(directory), "-c", "nginx.conf")


def program(name: str) -> str:
    """Return the program's path; Debian installs nginx outside the PATH of ordinary users."""
    if path := shutil.which(name, path=os.environ["PATH"] + os.pathsep + "/usr/sbin"):
        return path
    raise UnavailableError(f"{name} is not installed")


SERVICES: dict[str, Callable[[Site], AbstractContextManager[Service]]] = {
    "fast lane": ours,
    "fast lane off": partial(ours, FAST_LANE="false"),
    "2 workers": partial(ours, WEB_CONCURRENCY=2),
    "own Redis": partial(ours, redis_of=_own),
    "cluster": partial(ours, redis_of=_cluster),
    "1 rule": partial(ours, rules=ONE_RULE),
    "10,000 rules": partial(ours, rules=MANY_RULES),
    "no limit": partial(ours, rules=NO_LIMIT),
    "seed": _uvicorn,
    "flask-limiter": partial(_gunicorn, name="flask_limiter"),
    "Node": _node,
    "Node, autopipelining": partial(_node, AUTO_PIPELINING="true"),
    "hello": partial(_gunicorn, name="hello"),
    "nginx": _nginx,
}
