"""The servers that are installed as wheels, for `make run` (`python -m devstack`) and for the tests.

    with runtime_directory() as sockets, Valkey(data_dir=here / "valkey", socket_dir=sockets) as valkey:
        valkey.url, valkey.pid

Both end when this process ends, even when it is killed.
"""

from __future__ import annotations

from devstack.errors import StartError
from devstack.servers.postgres import Postgres
from devstack.servers.valkey import Valkey
from devstack.socket_dir import runtime_directory

__all__ = ["Postgres", "StartError", "Valkey", "runtime_directory"]
