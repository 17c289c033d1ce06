"""What the checks of tenants with layers are charged to, remembered: a match there takes many look-ups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from app.limiter.compiled_rule import CompiledRule
from app.limiter.decision import Check
from app.limiter.joint.joint_rule import JointRule, joined
from app.limiter.keys import Keyspace
from app.rules.matching.layered_rules import Deciding
from app.rules.rule import Rule

MAX_JOINTS = 10_000  # about a kilobyte each; a full cache is emptied
MATCHES_BYTES = 4 * 1024 * 1024  # remembered per worker; a full cache is emptied
MATCH_BYTES = 500  # per remembered match, without its texts


class Owned(NamedTuple):
    """A rule that decides a check, and the prefix of its counters: the client's, or that of shared counters."""

    rule: Rule
    owner: bytes


class Match(NamedTuple):
    """How a check is charged: by which rule, for which client, and whose counters.

    `owners` as in Charge; empty if one rule alone decides, by the client's own counters.
    """

    compiled: CompiledRule
    client: bytes
    owners: tuple[bytes, ...] = ()


class Joints:
    """Joint rules by their parts. Compiled rules never change, so these outlive the book."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, ...], JointRule] = {}

    def match(self, rules: Sequence[Owned], client: bytes, compiled: Callable[[Rule], CompiledRule]) -> Match:
        """Return how a check of the client by these rules is charged.

        A rule that blocks decides alone; one that allows exempts from its own layer.
        """
        blocking = [rule for rule, _ in rules if rule.action == "block"]
        limiting = [owned for owned in rules if owned.rule.action == "limit"]
        if blocking or not limiting:
            return Match(compiled([*blocking, rules[0].rule][0]), client)
        if len(limiting) == 1 and not limiting[0].rule.shared:
            return Match(compiled(limiting[0].rule), client)
        owners = tuple(dict.fromkeys((client, *(owner for _, owner in limiting))))
        parts = [compiled(rule) for rule, _ in limiting]
        return Match(self._joint(parts, [owners.index(owner) for _, owner in limiting]), client, owners)

    def _joint(self, parts: Sequence[CompiledRule], owned: Sequence[int]) -> JointRule:
        name = (*(part.number for part in parts), *owned)
        joint = self._made.get(name)
        if joint is None:
            if len(self._made) >= MAX_JOINTS:
                self._made.clear()
            joint = self._made[name] = joined(parts, owned)
        return joint


class Matches:
    """The matches of one book. Callers choose clients, keys and groups, so the memory is bounded."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, str, str, tuple[str, ...]], Match] = {}
        self._room = MATCHES_BYTES

    def get(self, tenant_id: int, check: Check) -> Match | None:
        """Return the remembered match of the check."""
        return self._found.get((tenant_id, check.client_id, check.limit_key, check.groups))

    def keep(self, tenant_id: int, check: Check, match: Match) -> None:
        """Remember the match of the check, that of every client with the same names."""
        if self._room < 0:
            self._found, self._room = {}, MATCHES_BYTES
        texts = check.client_id, check.limit_key, *check.groups
        self._room -= MATCH_BYTES + sum(len(text) * (1 if text.isascii() else 4) for text in texts)
        self._found[tenant_id, check.client_id, check.limit_key, check.groups] = match


def owned(keyspace: Keyspace, tenant_id: int, client: bytes, deciding: Deciding) -> Owned:
    """Return the deciding rule with the owner of its counters, for a client with that prefix."""
    rule, group = deciding
    return Owned(rule, keyspace.shared(tenant_id, rule, group) if rule.shared else client)
