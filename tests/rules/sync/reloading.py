"""A reloader on a database that a test sets, and rules and keys to read."""

from __future__ import annotations

import time
from pathlib import Path

from app.rules.api_key import ApiKey
from app.rules.rule import Limit, Rule, default_rule
from app.rules.rule_book import RuleBook, RulesetId, Snapshot
from app.rules.sync.reloader import RuleReloader
from app.rules.sync.snapshot_file import SnapshotFile

RULE = Rule(id=3, client_id="a", endpoint="login", limits=(Limit(5, 60, "gcra", 7, 2), Limit(1, 1)), fail_mode="closed")


KEYS = (
    ApiKey(id="abcd1234", tenant_id=2, name="one", digest=bytes(32), scopes=frozenset({"check", "rules:read"})),
    ApiKey(id="efgh5678", tenant_id=1, name="two", digest=bytes(32), scopes=frozenset({"check"}), expires_at=5.5),
    ApiKey(id="ijkl9012", tenant_id=1, name="three", digest=bytes(32), scopes=frozenset(), owner="two (efgh5678)"),
)


class Database:
    """A source that holds one snapshot, or is down."""

    def __init__(self, snapshot: Snapshot | None) -> None:
        self.snapshot = snapshot

    def other_than(self, ruleset_id: RulesetId | None) -> Snapshot | None:
        if self.snapshot is None:
            raise ConnectionError("the database is down\n(see the manual)")
        return None if self.snapshot.ruleset_id == ruleset_id else self.snapshot


def build(snapshot: Snapshot, *, previous: RuleBook | None) -> RuleBook:
    return RuleBook(snapshot, default=default_rule(100, 60), algorithm="gcra", previous=previous)


def reloader(database: Database, path: Path, now: list[float] | None = None) -> RuleReloader:
    clock = now or [50.0]
    return RuleReloader(
        source=database, saved=SnapshotFile(path / "rules.json", time.time), build=build, clock=lambda: clock[0]
    )
