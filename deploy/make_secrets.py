"""Makes the secrets that docker-compose.yml mounts, once: `python3 deploy/make_secrets.py [DIRECTORY]` (secrets).

Existing files are never replaced. Only the owner can enter the directory. Any user can read its files, because
containers run under their own users.
"""

import re
import secrets
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SENTINELS = ",".join(f"redis-sentinel-{n}:26379" for n in (1, 2, 3))
CLUSTER = ",".join(f"redis-cluster-{n}:6379" for n in range(1, 7))
OPERATIONS = (ROOT / "docs/operations.md").read_text()
ROLES = r"```sql\n(CREATE ROLE ratelimiter_owner.*?)```"


def contents() -> dict[str, str]:
    """Return the contents by file name. Users and grants are those of docs/operations.md."""
    limiter, servers, postgres, owner, app = (secrets.token_urlsafe(24) for _ in range(5))
    [grants] = re.findall(r"^ACL SETUSER ratelimiter (.*) >\S+$", OPERATIONS, re.MULTILINE)
    [roles] = re.findall(ROLES, OPERATIONS, re.DOTALL)
    return {
        "admin_api_key": secrets.token_urlsafe(32),
        "grafana_password": secrets.token_urlsafe(24),
        "postgres_password": postgres,
        "postgres_roles.sql": roles.replace("'change me'", f"'{owner}'").replace("'change me too'", f"'{app}'"),
        "database_url": f"postgresql://ratelimiter_app:{app}@postgres:5432/ratelimiter",
        "database_owner_url": f"postgresql://ratelimiter_owner:{owner}@postgres:5432/ratelimiter",
        "redis_users": f"user ratelimiter {grants} +role +cluster|slots +asking >{limiter}\n"
        f"user servers reset on ~* &* +@all >{servers}\n"  # for replicas, sentinels and the creation of a cluster
        "user default reset on nopass -@all +ping\n",  # for the health checks of docker-compose.yml
        "redis_replication": f"masteruser servers\nmasterauth {servers}\n",
        "redis_servers_password": servers,
        "redis_sentinel": "port 26379\ndir /data\nsentinel resolve-hostnames yes\nsentinel announce-hostnames yes\n"
        "sentinel monitor mymaster redis 6379 2\n"
        f"sentinel auth-user mymaster servers\nsentinel auth-pass mymaster {servers}\n"
        "sentinel down-after-milliseconds mymaster 2000\nsentinel failover-timeout mymaster 10000\n",
        "redis_url.single": f"redis://ratelimiter:{limiter}@redis:6379/0",
        "redis_url.sentinel": f"redis+sentinel://ratelimiter:{limiter}@{SENTINELS}/mymaster",
        "redis_url.cluster": f"redis+cluster://ratelimiter:{limiter}@{CLUSTER}",
    }


def main() -> None:
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "secrets")
    directory.mkdir(mode=0o700, exist_ok=True)
    directory.chmod(0o700)
    wanted, there = contents(), {file.name for file in directory.iterdir()}
    lacking = ", ".join(sorted(wanted.keys() - there))
    if there and lacking:
        sys.exit(f"{directory} lacks {lacking}: passwords in use are not replaced")
    if there:
        print(f"{directory}: all there already, nothing replaced")
        return
    for name, content in wanted.items():
        (directory / name).write_text(content)
        (directory / name).chmod(0o444)
    print(f"{directory}: made {lacking}")


if __name__ == "__main__":
    main()
