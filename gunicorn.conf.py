"""gunicorn's settings and hooks. `gunicorn wsgi:app` reads this file by itself."""

# Before anything else: with preload_app everything below is imported here, once, before the workers exist.
from gevent import monkey

monkey.patch_all()

import atexit
import gc
import itertools
import logging
import os
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

_starting = "prometheus_client" not in sys.modules  # SIGHUP has this read again while the metrics are in use
if _starting:
    # prometheus_client decides at its import whether it works for several processes. A directory of its own keeps out
    # the files of an earlier start, or of another node, which would be added to this one's.
    _given = os.environ.get("PROMETHEUS_MULTIPROC_DIR") or tempfile.gettempdir()
    try:
        os.makedirs(_given, exist_ok=True)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="ratelimiter-metrics-", dir=_given)
    except OSError as error:
        sys.exit(f"PROMETHEUS_MULTIPROC_DIR={_given}: allowed is a directory to write to ({error.strerror})")

from prometheus_client import multiprocess, values


def _forget_metrics(directory):
    if values.place == "master":
        for file in directory.glob("*.db"):
            file.unlink()
        with suppress(OSError):  # SIGUSR2 has started another master, whose directory is in it
            directory.rmdir()


if _starting:
    atexit.register(_forget_metrics, Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
    # Metric files are named by a worker's place among the running ones, not by its pid. The successor of a dead worker
    # goes on with its counters, so restarts add no files and no series.
    values.place = "master"
    # Raising a metric takes a lock, and never waits while it holds it: the system's own lock costs a tenth of gevent's.
    values.Lock = monkey.get_original("threading", "Lock")
    values.ValueClass = values.MultiProcessValue(lambda: values.place)

from app.config import NO_DATABASE, Settings
from app.environment import SettingsError, refusal
from app.observability import logs, metric_files
from app.observability.metrics import RULE_COUNTS
from app.server.head import MAX_FIELD, MAX_FIELDS, MAX_LINE
from app.server.logger import Logger
from app.server.worker import FastLaneWorker, Worker

try:
    _settings = Settings.from_env()
except SettingsError as error:
    sys.exit(str(error))
if _settings.database_url is None:
    sys.exit(NO_DATABASE)
logs.configure(_settings.log_level, _settings.log_format)
_log = logging.getLogger("app")
_log.info("settings: %s", _settings.public())
for _name, _near in _settings.misspelt.items():
    _log.warning("%s in .env is not a setting: did you mean %s?", _name, _near)
for _caution in _settings.cautions:
    _log.warning(_caution)

_host = f"[{_settings.bind}]" if ":" in _settings.bind else _settings.bind
bind = f"{_host}:{_settings.port}"
workers = _settings.web_concurrency
worker_class = FastLaneWorker if _settings.fast_lane else Worker
if _starting:
    metric_files.directory = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    RULE_COUNTS.reserve(2 * workers + 8)  # a reload starts all workers anew before the old ones end
preload_app = True
worker_connections = 1000
backlog = 2048

# Seconds. `timeout` kills a worker whose hub stands still; it does not bound requests. `keepalive` also bounds how long
# a request's head may take to arrive.
timeout = 30
graceful_timeout = 10
keepalive = 5

# Bounds of a request's head.
limit_request_line = MAX_LINE
limit_request_fields = MAX_FIELDS
limit_request_field_size = MAX_FIELD
# By default a header SCRIPT_NAME or PATH_INFO from loopback would replace the path of the request line.
forwarder_headers = ""

# Off: the system would go on sending a file past the deadline of answers.
sendfile = False

# The heartbeat file is in memory, where fsync of another process cannot delay it.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None
# Off: it would listen on a socket in the home directory.
control_socket_disable = True
forwarded_allow_ips = _settings.trusted_proxies
errorlog = "-"
logger_class = Logger
loglevel = _settings.log_level.lower()


def on_starting(server):
    from app.limiter.redis.preflight import names_a_member

    if names_a_member(_settings.redis_url):
        allowed = (
            "redis+cluster://host:port,… for this server, a member of a cluster that has only some of the counters"
        )
        sys.exit(refusal("REDIS_URL", _settings.redis_url, allowed))


def when_ready(server):
    from app.server.stopping import stop_gently

    # The master's gauges, made at import, would stand at 0 among those of the workers.
    multiprocess.mark_process_dead(values.place)
    services = server.app.wsgi().extensions["ratelimiter"]
    stop_gently(server, services.drain, _settings.drain_seconds)


def pre_fork(server, worker):
    taken = {other.place for other in server.WORKERS.values()}
    worker.place = next(place for place in itertools.count() if place not in taken)


def post_fork(server, worker):
    values.place = worker.place


def _spare_the_collector():
    # Freeze the objects that exist by now: the application and the first rules. Each collection through all of them
    # would stop a worker for a tenth of a second.
    gc.collect()
    gc.freeze()


def post_worker_init(worker):
    from app.rules.sql.database.engine import cooperate_with_gevent
    from app.worker_lifecycle import start_worker

    # Ctrl-C in a terminal reaches the whole process group; the master alone decides about the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cooperate_with_gevent()
    start_worker(worker.wsgi.extensions["ratelimiter"], place=worker.place)
    _spare_the_collector()


def pre_request(worker, req):
    # app/api/request_body.py uses this to end a connection whose body it does not read to the end.
    req.body.abandon_connection = req.force_close


def post_request(worker, req, environ, resp):
    # A log line between two requests of a connection belongs to neither.
    logs.correlation_id.set(logs.NO_REQUEST)
    # Bytes that the caller sent after its request must not cause a reset that destroys the answer.
    if resp is not None and resp.headers_sent and resp.should_close():
        resp.sock.close_gracefully()


def worker_exit(server, worker):
    from app.worker_lifecycle import stop_worker

    app = getattr(worker, "wsgi", None)  # None if the worker failed to start
    if app is not None:
        stop_worker(app.extensions["ratelimiter"])


def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.place)
