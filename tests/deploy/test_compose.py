"""docker-compose.yml and the Dockerfile as far as they run without Docker: every command a check depends on."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import redis
import requests

from devstack import Postgres
from devstack.servers.valkey import binary
from tests.support.composition import Container, composition, copy_image, image_command
from tests.support.front import program
from tests.support.node import ROOT, free_port
from tests.support.traefik import Traefik

LIMITERS = ("limiter-1", "limiter-2", "limiter-3")
SENTINELS = ("redis-sentinel-1", "redis-sentinel-2", "redis-sentinel-3")


class Deployment:
    """Starts services of the composition. `ports`: by service."""

    def __init__(self, directory: Path, postgres: Postgres, running: ExitStack) -> None:
        self.directory, self.secrets, self.image = directory, directory / "made", directory / "srv"
        self._running = running
        subprocess.run([sys.executable, ROOT / "deploy/make_secrets.py", self.secrets], check=True)
        copy_image(self.image)
        self.ports = {name: free_port() for name in ("redis", "redis-replica", *SENTINELS, *LIMITERS)}
        primary = self.ports["redis"]
        database = postgres.url_of("ratelimiter").rpartition("@")[2]
        self.words = {
            "valkey-server": str(binary()),
            "bind * -::*": "bind 127.0.0.1",
            "redis 6379": f"127.0.0.1 {primary}",
            "@redis:6379": f"@127.0.0.1:{primary}",
            "@postgres:5432/ratelimiter": f"@{database}",
            "172.30.7.2": "127.0.0.1",
            "jaeger": "127.0.0.1",
        } | {f"{name}:26379": f"127.0.0.1:{self.ports[name]}" for name in SENTINELS}

    def container(self, name: str, **settings: Any) -> Container:
        directory = self.directory / f"{name}{len(list(self.directory.iterdir()))}"
        own = {"port 6379": f"port {self.ports.get(name)}", "port 26379": f"port {self.ports.get(name)}"}
        places = {"secrets": self.secrets, "image": self.image, "words": own | self.words}
        return Container(name, directory, **places, **settings)

    def redis(self, name: str) -> Container:
        container = self._running.enter_context(self.container(name))
        return container.await_ready(lambda: ping(self.ports[name]))

    def limiters(self, *names: str) -> list[Container]:
        containers = [self.container(name, PORT=self.ports[name], REDIS_TIMEOUT_MS=5000) for name in names]
        for container in containers:
            self._running.enter_context(container)
        for name, container in zip(names, containers, strict=True):
            container.await_ready(lambda name=name: self.ask(name, "/readyz").ok)
        return containers

    def ask(self, name: str, path: str, **check: Any) -> requests.Response:
        url, key = f"http://127.0.0.1:{self.ports[name]}{path}", {"X-API-Key": self.secret("admin_api_key")}
        return requests.request("POST" if check else "GET", url, json=check or None, headers=key, timeout=5)

    def secret(self, name: str) -> str:
        return (self.secrets / name).read_text()


def ping(port: int) -> bool:
    """What `valkey-cli ping` of the health checks asks, as the user who may do nothing else."""
    try:
        with redis.Redis(port=port, protocol=2) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sockets: Path) -> Iterator[Deployment]:
    """With a PostgreSQL of its own that has run postgres_roles.sql, as the image's entry point would, and migrated."""
    directory, own = tmp_path_factory.mktemp("composition"), sockets / "composition"
    own.mkdir()
    with Postgres(data_dir=directory / "postgres", socket_dir=own, durable=False) as postgres, ExitStack() as running:
        stack = Deployment(directory, postgres, running)
        with closing(psycopg2.connect(postgres.url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(stack.secret("postgres_roles.sql"))
        migrate = stack.container("migrate")
        assert migrate.run() == 0, migrate.log.read_text()
        stack.redis("redis")
        yield stack


def test_the_three_nodes_serve_behind_traefik_and_stop_in_time(stack: Deployment, tmp_path: Path) -> None:
    files = {path for path in stack.image.rglob("*") if path.name != "__pycache__"}
    limiters = stack.limiters(*LIMITERS)
    assert composition()["services"]["traefik"]["command"] == ["--configfile=/etc/traefik/traefik.yml"]
    with Traefik(tmp_path, [stack.ports[name] for name in LIMITERS]) as traefik:
        healthcheck = composition()["services"]["traefik"]["healthcheck"]["test"]
        assert healthcheck == ["CMD", "traefik", "healthcheck", "--configfile=/etc/traefik/traefik.yml"]
        asked = [program("traefik"), "healthcheck", "--configfile=here.yml"]
        assert subprocess.run(asked, cwd=tmp_path, capture_output=True, check=False).returncode == 0

        key = {"X-API-Key": stack.secret("admin_api_key")}
        rule = {"client_id": "composed", "rate": 5, "window": 3600}
        made = traefik.request("POST", "/v1/admin/rules", port=traefik.admin, json=rule, headers=key)
        assert made.status_code == 201, made.text
        for name in LIMITERS:
            assert traefik.eventually(lambda name=name: stack.ask(name, "/health").json()["rules_version"] >= 1)
        check = {"json": {"client_id": "composed"}, "headers": key}
        decisions = [traefik.request("POST", "/v1/check", **check).json() for _ in range(9)]
        assert [decision["allowed"] for decision in decisions] == [True] * 5 + [False] * 4
        assert not any(decision["degraded"] for decision in decisions)
        without = traefik.request("POST", "/v1/check", json=check["json"])
        assert without.status_code == 401  # unless CHECK_AUTH=open is said
    assert limiters[0].run(image_command("HEALTHCHECK")) == 0, limiters[0].log.read_text()
    # As `docker compose exec limiter-1 flask …`.
    for command in (["flask", "explain", "composed"], ["flask", "rules", "block", "composed", "--as", "jane"]):
        assert limiters[0].run(command) == 0, limiters[0].log.read_text()
    said = limiters[0].log.read_text()
    assert "composed, any endpoint) decides: 5/3600s token_bucket" in said
    assert "client composed: blocked (1 rule: " in said
    with ThreadPoolExecutor() as stopping:
        assert list(stopping.map(Container.stop, limiters)) == [0, 0, 0]
    assert limiters[0].run(image_command("HEALTHCHECK")) != 0
    # The image is read-only: whatever a node writes, it writes elsewhere.
    assert {path for path in stack.image.rglob("*") if path.name != "__pycache__"} == files


def test_a_node_finds_the_primary_by_the_sentinels(stack: Deployment) -> None:
    for name in ("redis-replica", *SENTINELS):
        stack.redis(name)
    (stack.secrets / "redis_url.single").write_text(stack.secret("redis_url.sentinel"))  # as REDIS=sentinel chooses
    stack.limiters("limiter-1")
    assert stack.ask("limiter-1", "/health").json()["redis_available"]
    decision = stack.ask("limiter-1", "/v1/check", client_id="sentinel").json()
    assert (decision["allowed"], decision["degraded"]) == (True, False)
    with redis.Redis(
        port=stack.ports["redis"], username="servers", password=stack.secret("redis_servers_password")
    ) as r:
        [replica] = [value for name, value in r.info("replication").items() if name.startswith("slave")]
        assert replica["state"] == "online"


def test_who_has_no_password_may_do_nothing_in_redis(stack: Deployment) -> None:
    with redis.Redis(port=stack.ports["redis"]) as client:
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.get("x")
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.config_get("*")


def test_the_service_may_not_change_tables(stack: Deployment) -> None:
    url = stack.container("limiter-2").environment["DATABASE_URL_FILE"]
    with closing(psycopg2.connect(Path(url).read_text())) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM rules")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute("DROP TABLE all_rules")


def test_every_service_is_hardened() -> None:
    for name, service in composition()["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["user"].split(":")[0] not in ("", "0", "root"), name
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}, name
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", [])), name
        assert not service.get("privileged"), name
        assert ":" in service["image"] or service["image"] == "ratelimiter", name


def test_nothing_secret_stands_in_an_environment() -> None:
    for name, service in composition()["services"].items():
        for variable, value in service.get("environment", {}).items():
            assert "PASSWORD" not in variable or value.startswith("/run/secrets/"), (name, variable)


def test_every_image_can_be_pinned_by_digest() -> None:
    """By a variable of its own: no digest is known here."""
    named = [
        line.partition(":")[2].strip()
        for line in (ROOT / "docker-compose.yml").read_text().splitlines()
        if "image:" in line
    ]
    assert len(named) == 7
    assert [name for name in named if not re.fullmatch(r"\$\{[A-Z]+_IMAGE:-[a-z/]+:v?[\d.]+\}", name)] == [
        "ratelimiter"
    ]
    assert set(re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)) == {"${PYTHON_IMAGE}"}


def test_only_what_is_meant_for_people_is_published() -> None:
    published = {
        name: [port["target"] for port in service["ports"]]
        for name, service in composition()["services"].items()
        if "ports" in service
    }
    assert published == {"traefik": [8000, 8001], "grafana": [3000], "prometheus": [9090], "jaeger": [16686]}


def test_a_node_has_more_time_to_stop_than_it_takes() -> None:
    from app.config import Settings

    grace = float(composition()["services"]["limiter-1"]["stop_grace_period"].removesuffix("s"))
    graceful = 10  # graceful_timeout of gunicorn.conf.py
    assert f"graceful_timeout = {graceful}" in (ROOT / "gunicorn.conf.py").read_text()
    assert grace > Settings.from_env().drain_seconds + graceful
