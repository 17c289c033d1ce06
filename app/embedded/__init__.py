"""The servers that come as wheels, for `make run` (`python -m app.embedded`) and for the tests.

    with runtime_directory() as sockets, Valkey(data_dir=here / "valkey", socket_dir=sockets) as valkey:
        valkey.url, valkey.pid

Both end when this process ends, even when it is killed.
"""

from __future__ import annotations

from app.embedded.errors import StartError
from app.embedded.postgres import Postgres
from app.embedded.runtime import runtime_directory
from app.embedded.valkey import Valkey

__all__ = ["Postgres", "StartError", "Valkey", "runtime_directory"]
