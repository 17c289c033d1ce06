"""A rule made ready for the hot path: whatever is the same for every check of it is computed once."""

from __future__ import annotations

import msgspec

from app.limiter.keys import CLIENT_LENGTH, counter_names
from app.limiter.scripts import check_script
from app.observability.metrics import ALLOWED, BLOCKED
from app.rules.rule import Limit, Rule


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

    def command(self, client: bytes, cost: int, now_us: int | None = None) -> bytes:
        """The packed EVALSHA for a client, given by its part of the keys. Without `now_us`, Redis's clock decides."""
        now = b"" if now_us is None else b"%d" % now_us
        return b"".join((client.join(self._pieces), _bulk(b"%d" % cost), self._arguments, _bulk(now)))


class Charge(msgspec.Struct, frozen=True):
    """Asks to consume `cost` units of every limit of a plan's rule, or of none, for one client."""

    plan: Plan
    client: bytes
    cost: int


def _pieces(rule: Rule, names: tuple[bytes, ...]) -> list[bytes]:
    """The command up to the cost, cut where the client's part of each key belongs."""
    script = check_script(frozenset(str(limit.algorithm) for limit in rule.limits))
    words = 3 + len(names) + 1 + 4 * len(names) + 1  # EVALSHA sha n, keys, cost, arguments, now
    start = b"*%d\r\n" % words + b"".join(map(_bulk, (b"EVALSHA", script.sha.encode(), b"%d" % len(names))))
    lengths = [b"$%d\r\n" % (CLIENT_LENGTH + len(name)) for name in names]
    between = [name + b"\r\n" + length for name, length in zip(names, lengths[1:], strict=False)]
    return [start + lengths[0], *between, names[-1] + b"\r\n"]


def _words(limit: Limit) -> tuple[bytes, ...]:
    algorithm = str(limit.algorithm).encode()
    return algorithm, b"%d" % limit.rate, b"%d" % limit.window_us, b"%d" % limit.capacity


def packed(*words: bytes) -> bytes:
    """A command as Redis reads it."""
    return b"*%d\r\n" % len(words) + b"".join(map(_bulk, words))


def _bulk(word: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(word), word)
