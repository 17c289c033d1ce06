"""Makes the files that docker-compose.yml takes its secrets from: `python deploy/secrets.py` (once).

They are readable by all, because containers read them as users of their own, in a directory only its owner can enter.
"""

from __future__ import annotations

import re
import secrets
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Beyond what docs/operations.md grants, what Sentinel and Cluster need of the service.
TOPOLOGIES = "+role +cluster|slots +asking"
SENTINEL = """sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel monitor mymaster valkey 6379 2
sentinel auth-user mymaster operator
sentinel auth-pass mymaster {operator}
sentinel down-after-milliseconds mymaster 2000
sentinel failover-timeout mymaster 10000
"""


def files() -> dict[str, str]:
    """Content by name."""
    database, limiter, operator = (secrets.token_urlsafe(24) for _ in range(3))
    operations = (ROOT / "docs/operations.md").read_text()
    [granted] = re.findall(r"^ACL SETUSER ratelimiter reset (.*) >\S+$", operations, re.MULTILINE)
    user = f"ratelimiter:{limiter}"
    return {
        "admin_api_key": secrets.token_urlsafe(32),
        "grafana_password": secrets.token_urlsafe(24),
        "postgres_password": database,
        "database_url": f"postgresql://ratelimiter:{database}@postgres:5432/ratelimiter",
        "single_url": f"redis://{user}@valkey:6379/0",
        "sentinel_url": f"redis+sentinel://{user}@sentinel-1:26379,sentinel-2:26379,sentinel-3:26379/mymaster",
        "cluster_url": f"redis+cluster://{user}@cluster-1:6379,cluster-2:6379,cluster-3:6379",
        "operator_password": operator,
        "valkey_users": "\n".join(
            [
                "user default on nopass resetkeys resetchannels -@all +ping",
                f"user ratelimiter {granted} {TOPOLOGIES} >{limiter}",
                f"user operator on ~* &* +@all >{operator}",
                "primaryuser operator",
                f"primaryauth {operator}",
                "",
            ]
        ),
        "sentinel.conf": SENTINEL.format(operator=operator),
    }


def write(directory: Path) -> None:
    """Nothing that is there already is changed: servers may know it."""
    directory.mkdir(mode=0o700, parents=True)
    for name, content in files().items():
        path = directory / name
        path.write_text(content)
        path.chmod(0o444)


if __name__ == "__main__":
    try:
        write(ROOT / "deploy/secrets")
    except FileExistsError:
        sys.exit("deploy/secrets is there already")
