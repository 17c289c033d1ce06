"""A rule made ready for the hot path: whatever is the same for every check of it is computed once."""

from __future__ import annotations

import msgspec

from app.limiter.decision import Outcome
from app.limiter.errors import StoreError
from app.limiter.keys import CLIENT_LENGTH, counter_names
from app.limiter.scripts import check_script
from app.observability.metrics import ALLOWED, BLOCKED
from app.rules.rule import Limit, Rule

EMPTY = b"$0\r\n\r\n"


class Plan:
    """How Redis is asked about one rule, and where its decisions are counted. The limits' algorithms are resolved."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.charges = rule.action == "limit"
        self.names = counter_names(rule)
        self.allowed = ALLOWED.labels(rule.label, rule.endpoint or "*")
        self.blocked = BLOCKED.labels(rule.label, rule.endpoint or "*")
        self._pieces = _pieces(rule, self.names) if self.charges else []
        self._arguments = b"".join(_bulk(word) for limit in rule.limits for word in _words(limit))

    def command(self, charge: Charge, now_us: int | None = None) -> bytes:
        """The packed EVALSHA for a charge of this plan. Without `now_us`, Redis's clock decides."""
        now = b"" if now_us is None else b"%d" % now_us
        units = b"%d" % charge.cost
        if charge.once is not None:
            return self._command_once(charge.client, units, charge.once, now)
        return b"".join((charge.client.join(self._pieces), _bulk(units), self._arguments, EMPTY, _bulk(now)))

    def _command_once(self, client: bytes, units: bytes, once: Once, now: bytes) -> bytes:
        keys = [client + name for name in (*self.names, once.name)]
        words = [word for limit in self.rule.limits for word in _words(limit)]
        return packed(b"EVALSHA", _sha(self.rule), b"%d" % len(keys), *keys, units, *words, once.meaning, now)


class Once(msgspec.Struct, frozen=True):
    """A request id: the name under which the client's answer is kept, and what check the id stands for."""

    name: bytes
    meaning: bytes


class Charge(msgspec.Struct):
    """Asks to consume `cost` units of every limit of a plan's rule, or of none, for one client.

    `outcome` is what came of it, once it has been decided; None also where the rule allows or blocks outright.
    """

    plan: Plan
    client: bytes
    cost: int
    once: Once | None = None
    outcome: Outcome | StoreError | None = None


def _pieces(rule: Rule, names: tuple[bytes, ...]) -> list[bytes]:
    """The command up to the cost, cut where the client's part of each key belongs."""
    words = 3 + len(names) + 1 + 4 * len(names) + 2  # EVALSHA sha n, keys, cost, arguments, no request id, now
    start = b"*%d\r\n" % words + b"".join(map(_bulk, (b"EVALSHA", _sha(rule), b"%d" % len(names))))
    lengths = [b"$%d\r\n" % (CLIENT_LENGTH + len(name)) for name in names]
    between = [name + b"\r\n" + length for name, length in zip(names, lengths[1:], strict=False)]
    return [start + lengths[0], *between, names[-1] + b"\r\n"]


def _sha(rule: Rule) -> bytes:
    return check_script(frozenset(str(limit.algorithm) for limit in rule.limits)).sha.encode()


def _words(limit: Limit) -> tuple[bytes, ...]:
    algorithm = str(limit.algorithm).encode()
    return algorithm, b"%d" % limit.rate, b"%d" % limit.window_us, b"%d" % limit.capacity


def packed(*words: bytes) -> bytes:
    """A command as Redis reads it."""
    return b"*%d\r\n" % len(words) + b"".join(map(_bulk, words))


def _bulk(word: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(word), word)
