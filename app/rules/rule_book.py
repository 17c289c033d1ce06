"""An immutable snapshot of all rules that answers "which rule decides this check?"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from app.rules.api_key import ApiKey, KeyHash
from app.rules.rule import Rule

ByEndpoint = Mapping[str | None, Rule]


class Edition(NamedTuple):
    """Which state of which database: two databases may reach the same version, never with the same secret."""

    version: int
    key_secret: bytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the database says at one `version`: every tenant's rules and API keys.

    `key_secret`: under which Redis keys are spelled. `key_hash_secret`: under which API keys are hashed.
    """

    version: int
    key_secret: bytes
    rules: tuple[Rule, ...]
    keys: tuple[ApiKey, ...] = ()
    key_hash_secret: bytes = b""

    @property
    def edition(self) -> Edition:
        return Edition(self.version, self.key_secret)


class RuleBook:
    """Matches checks to rules. `default` decides where nothing stored does; `algorithm` is for limits naming none."""

    def __init__(self, snapshot: Snapshot, *, default: Rule, algorithm: str) -> None:
        self.edition = snapshot.edition
        self.keys = {key.id: key for key in snapshot.keys}
        self.key_hash = KeyHash(snapshot.key_hash_secret)
        self._default = _resolved(default, algorithm)
        enabled = [_resolved(rule, algorithm) for rule in snapshot.rules if rule.enabled]
        self._enforced = _Index([rule for rule in enabled if not rule.shadow])
        self._shadows = _Index([rule for rule in enabled if rule.shadow])

    def match(self, tenant_id: int, client_id: str, limit_key: str) -> Rule:
        """The most specific rule for this check; the built-in default where nothing stored matches."""
        return self._enforced.match(tenant_id, client_id, limit_key) or self._default

    def match_shadow(self, tenant_id: int, client_id: str, limit_key: str) -> Rule | None:
        """The most specific shadow rule, decided beside the enforcing one."""
        return self._shadows.match(tenant_id, client_id, limit_key)

    def candidates(self, tenant_id: int, client_id: str) -> list[Rule]:
        """Every rule, shadows included, that can decide some check of this client; the default is last."""
        return [
            *self._enforced.candidates(tenant_id, client_id),
            *self._shadows.candidates(tenant_id, client_id),
            self._default,
        ]


class _Index:
    """Exact client ids by dictionary; patterns in the order in which they win."""

    def __init__(self, rules: list[Rule]) -> None:
        self._exact: dict[tuple[int, str], dict[str | None, Rule]] = {}
        patterns: dict[tuple[int, str], dict[str | None, Rule]] = {}
        for rule in rules:
            index = patterns if "*" in rule.client_id else self._exact
            index.setdefault((rule.tenant_id, rule.client_id), {})[rule.endpoint] = rule
        self._patterns: dict[int, list[tuple[Glob, ByEndpoint]]] = {}
        for (tenant_id, pattern), by_endpoint in sorted(patterns.items(), key=_most_specific_first):
            self._patterns.setdefault(tenant_id, []).append((Glob(pattern), by_endpoint))

    def match(self, tenant_id: int, client_id: str, limit_key: str) -> Rule | None:
        for by_endpoint in self._of_client(tenant_id, client_id):
            rule = by_endpoint.get(limit_key) or by_endpoint.get(None)
            if rule is not None:
                return rule
        return None

    def candidates(self, tenant_id: int, client_id: str) -> list[Rule]:
        return [rule for by_endpoint in self._of_client(tenant_id, client_id) for rule in by_endpoint.values()]

    def _of_client(self, tenant_id: int, client_id: str) -> Iterator[ByEndpoint]:
        exact = self._exact.get((tenant_id, client_id))
        if exact is not None:
            yield exact
        for glob, by_endpoint in self._patterns.get(tenant_id, ()):
            if glob.matches(client_id):
                yield by_endpoint


class Glob:
    """A client pattern in which `*` stands for any text. Linear time, whatever the pattern: callers choose the text."""

    def __init__(self, pattern: str) -> None:
        self._head, *self._middle, self._tail = pattern.split("*")

    def matches(self, text: str) -> bool:
        position, end = len(self._head), len(text) - len(self._tail)
        if position > end or not text.startswith(self._head) or not text.endswith(self._tail):
            return False
        for part in self._middle:
            position = text.find(part, position, end)
            if position < 0:
                return False
            position += len(part)
        return True


def _resolved(rule: Rule, algorithm: str) -> Rule:
    return replace(rule, limits=tuple(limit.resolved(algorithm) for limit in rule.limits))


def _most_specific_first(item: tuple[tuple[int, str], object]) -> tuple[int, str]:
    pattern = item[0][1]
    return -len(pattern.replace("*", "")), pattern
