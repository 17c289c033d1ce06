"""A rule made ready for the hot path: whatever is the same for every check of it is computed once."""

from __future__ import annotations

from struct import Struct, pack
from typing import Any

import msgspec
from msgspec.structs import replace

from app.limiter.keys import CLIENT_LENGTH, counter_names
from app.limiter.scripts import Script, check_script, named, number
from app.observability.metrics import ALLOWED, BLOCKED
from app.rules.rule import Limit, Rule

_double = Struct("<d").pack


class Plan:
    """How Redis is asked about one rule, and where its decisions are counted. The limits' algorithms are resolved."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.charges = rule.action == "limit"
        self.names = counter_names(rule)
        self.allowed = ALLOWED.labels(rule.label, rule.endpoint or "*")
        self.templates: dict[int, Any] = {}  # of answers, by the binding limit: whoever encodes them keeps his there
        self.blocked = BLOCKED.labels(rule.label, rule.endpoint or "*")
        self._limits = b"".join(map(_numbers, rule.limits))
        self._pieces = _pieces(rule, self.names) if self.charges else [b""]
        self._one_unit = [*self._pieces[:-1], self._pieces[-1] + self._end(1)]

    def command(self, charge: Charge, now_us: int | None = None) -> bytes:
        """The packed EVALSHA for a charge of this plan. Without `now_us`, Redis's clock decides."""
        if charge.once is not None or now_us is not None:
            return self._command_with(charge, charge.once, now_us)
        if charge.cost == 1:  # most are
            return charge.client.join(self._one_unit)
        return charge.client.join(self._pieces) + self._end(charge.cost)

    @property
    def terms(self) -> bytes:
        """What an answer says of the rule and its limits: kept with it under a request id."""
        limits = [(limit.rate, limit.window, number(str(limit.algorithm)), limit.burst) for limit in self.rule.limits]
        return msgspec.msgpack.encode((self.rule.id, limits))

    def as_of(self, terms: bytes) -> Plan:
        """As it would be with these terms, which the rule, or another in its place, had earlier."""
        rule_id, limits = msgspec.msgpack.decode(terms)
        found = (Limit(rate, window, named(algorithm), burst) for rate, window, algorithm, burst in limits)
        return Plan(replace(self.rule, id=rule_id, limits=tuple(found)))

    def _end(self, cost: int) -> bytes:
        return _double(cost) + self._limits + b"\r\n"

    def _command_with(self, charge: Charge, once: Once | None, now_us: int | None) -> bytes:
        names = (*self.names, once.name) if once else self.names
        keys = [charge.client + name for name in names]
        meaning = once.meaning if once else b""
        sha = once.script.sha.encode() if once and once.script else _sha(self.rule)
        now = () if now_us is None else (b"%d" % now_us,)
        numbers = _double(charge.cost) + self._limits
        return packed(b"EVALSHA", sha, b"%d" % len(keys), *keys, numbers, meaning, *now)


class Once(msgspec.Struct, frozen=True, gc=False):
    """What a charge is kept under: `name` is the client's one more key, `meaning` what the script is told of it.

    That is a request id, what check it stands for and by which terms; or with a `script` of leases a lease, and how
    long it lasts.
    """

    name: bytes
    meaning: bytes = b""
    script: Script | None = None


class Charge(msgspec.Struct, frozen=True, gc=False):
    """Asks to consume `cost` units of every limit of a plan's rule, or of none, for one client."""

    plan: Plan
    client: bytes
    cost: int
    once: Once | None = None


def _pieces(rule: Rule, names: tuple[bytes, ...]) -> list[bytes]:
    """The command up to the cost, cut where the client's part of each key belongs."""
    start = b"*%d\r\n" % (3 + len(names) + 1) + b"".join(map(_bulk, (b"EVALSHA", _sha(rule), b"%d" % len(names))))
    lengths = [b"$%d\r\n" % (CLIENT_LENGTH + len(name)) for name in names]
    between = [name + b"\r\n" + length for name, length in zip(names, lengths[1:], strict=False)]
    return [start + lengths[0], *between, names[-1] + b"\r\n$%d\r\n" % (8 + 32 * len(names))]


def _sha(rule: Rule) -> bytes:
    algorithms = frozenset(str(limit.algorithm) for limit in rule.limits)
    return check_script(algorithms, several=len(rule.limits) > 1).sha.encode()


def _numbers(limit: Limit) -> bytes:
    return pack("<4d", limit.rate, limit.window_us, limit.capacity, number(str(limit.algorithm)))


def packed(*words: bytes) -> bytes:
    """A command as Redis reads it."""
    return b"*%d\r\n" % len(words) + b"".join(map(_bulk, words))


def _bulk(word: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(word), word)
