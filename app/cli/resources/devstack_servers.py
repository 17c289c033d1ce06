"""Commands find the servers of a running `make run`, whose addresses and passwords are in its run.lock alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from app.config import Settings, for_psycopg2


def settings_of_command(settings: Settings) -> Settings:
    """In a command: the settings with the servers that `make run` started on the same DATA_DIR, where the settings name
    none.
    """
    if click.get_current_context(silent=True) is None:
        return settings  # a server uses only configured servers, never those that happen to run beside it
    servers = _servers(settings.data_dir)
    redis_url = servers.get("REDIS_URL", settings.redis_url) if settings.redis_embedded else settings.redis_url
    database_url = settings.database_url or for_psycopg2(servers.get("DATABASE_URL"))
    return settings.at(redis_url, database_url)


def _servers(data_dir: Path) -> dict[str, Any]:
    """Read the servers from the file of devstack/run_lock.py: images of the service lack that module."""
    try:
        found = json.loads((data_dir / "run.lock").read_text())["servers"]
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    return found if isinstance(found, dict) else {}
