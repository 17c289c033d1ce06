"""The last good snapshot on disk, so that a node that starts without its database still decides by the real rules."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.rules.api_key import ApiKey
from app.rules.rule import Limit, Rule
from app.rules.rule_book import Snapshot

FORMAT = 2  # 1 had no keys


class SnapshotFile:
    """Reads and writes one file, readable by its owner alone: it holds secrets."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Snapshot | None:
        """The saved snapshot; None where there is none that this version understands."""
        try:
            saved = json.loads(self._path.read_text(encoding="utf-8"))
            if saved["format"] not in (1, FORMAT):
                return None
            return Snapshot(
                int(saved["version"]),
                bytes.fromhex(saved["key_secret"]),
                tuple(_rule(fields) for fields in saved["rules"]),
                keys=tuple(_key(fields) for fields in saved.get("keys", ())),
                key_hash_secret=bytes.fromhex(saved.get("key_hash_secret", "")),
            )
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def write(self, snapshot: Snapshot) -> None:
        """Replace the file in one step: a reader sees the old or the new one, a crash leaves one of them."""
        document = {
            "format": FORMAT,
            "version": snapshot.version,
            "key_secret": snapshot.key_secret.hex(),
            "key_hash_secret": snapshot.key_hash_secret.hex(),
            "keys": [_key_fields(key) for key in snapshot.keys],
            "rules": [_fields(rule) for rule in snapshot.rules],
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(document, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._path)
        except BaseException:
            os.unlink(temporary)  # half a file, with secrets in it
            raise


def _fields(rule: Rule) -> dict[str, Any]:
    return {name: value for name, value in asdict(rule).items() if name not in ("created_at", "updated_at")}


def _rule(fields: dict[str, Any]) -> Rule:
    return Rule(**{**fields, "limits": tuple(Limit(**limit) for limit in fields["limits"])})


def _key_fields(key: ApiKey) -> dict[str, Any]:
    return asdict(key) | {"digest": key.digest.hex(), "scopes": sorted(key.scopes)}


def _key(fields: dict[str, Any]) -> ApiKey:
    return ApiKey(**{**fields, "digest": bytes.fromhex(fields["digest"]), "scopes": frozenset(fields["scopes"])})
