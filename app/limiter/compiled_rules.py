"""The compiled rules of one rule book, each made at its first check, and the charges made from them."""

from __future__ import annotations

from collections.abc import Sequence

from app.limiter.compiled_rule import Charge, ChargeRecord, CompiledRule
from app.limiter.decision import Check
from app.limiter.joint.matches import Joints, Match, Matches, Owned, owned
from app.limiter.keys import NEW_CLIENTS, Keyspace, answer_name, meaning
from app.observability.metrics import RULE_COUNTS
from app.rules.matching.layered_rules import Deciding
from app.rules.rule import Rule
from app.rules.rule_book import RuleBook
from app.rules.sync.yielding import Pace


class CompiledRules:
    """Used as long as `book` is current. State of `previous` is kept for rules that have not changed."""

    def __init__(self, book: RuleBook, previous: CompiledRules | None = None) -> None:
        self.book = book
        self.layered = book.layered  # tenants
        secret = book.ruleset_id.key_secret
        same = previous is not None and previous._keyspace.secret == secret
        self._keyspace: Keyspace = previous._keyspace if previous is not None and same else Keyspace(secret)
        self._compiled_rules: dict[int, CompiledRule] = {}
        self._earlier: dict[int, CompiledRule] = previous._handed_over() if previous is not None else {}
        self._joints: Joints = previous._joints if previous is not None else Joints()
        self._matches = Matches()
        # Nearly always true: each rule then has a series of its own.
        self._same_series = previous is not None and book.series.last == previous.book.series.last

    def charge(self, tenant_id: int, check: Check) -> Charge:
        """Return the charge of the enforced rules for this check."""
        if tenant_id in self.layered:
            return self._layered_charge(tenant_id, check)
        rule = self.book.match(tenant_id, check.client_id, check.limit_key)
        client = self._keyspace.client(tenant_id, check.client_id)
        if check.request_id is None and not check.new_client:  # the common case
            return Charge(self._compiled_rules.get(rule.id) or self.compiled(rule), client, check.cost)
        if check.new_client and rule.client_id != check.client_id:  # a client that a rule names is not new
            return _charged(Match(self.compiled(rule), self._new_clients(tenant_id)), check, own_client=client)
        return _charged(Match(self.compiled(rule), client), check)

    def _layered_charge(self, tenant_id: int, check: Check) -> Charge:
        match = None if check.new_client else self._matches.get(tenant_id, check)
        if match is None:
            client = self._keyspace.client(tenant_id, check.client_id)
            deciding = self.book.deciding(tenant_id, check.client_id, check.limit_key, check.groups)
            if check.new_client and check.client_id not in {rule.client_id for rule, _ in deciding}:
                match = self._match(tenant_id, self._new_clients(tenant_id), deciding)
                return _charged(match, check, own_client=client)
            match = self._match(tenant_id, client, deciding)
            self._matches.keep(tenant_id, check, match)
        return _charged(match, check)

    def shadow_charges(self, tenant_id: int, check: Check, client: bytes) -> Sequence[Charge]:
        """Return the charges of the matching shadow rules, at most one of each layer.

        `client` is that of the enforced rules' charge.
        """
        if tenant_id in self.layered:
            found = self.book.deciding_shadows(tenant_id, check.client_id, check.limit_key, check.groups)
        else:
            rule = self.book.match_shadow(tenant_id, check.client_id, check.limit_key)
            if rule is None:
                return ()
            found = (Deciding(rule),)
        own_client = self._keyspace.client(tenant_id, check.client_id) if check.new_client else b""
        return [_charged(self._match(tenant_id, client, [each]), check, own_client=own_client) for each in found]

    def match(self, rules: Sequence[Owned], client: bytes) -> Match:
        """Return how a check of the client by these rules is charged."""
        return self._joints.match(rules, client, self.compiled)

    def _match(self, tenant_id: int, client: bytes, deciding: Sequence[Deciding]) -> Match:
        return self.match([owned(self._keyspace, tenant_id, client, each) for each in deciding], client)

    def _new_clients(self, tenant_id: int) -> bytes:
        """Return the prefix of the counters that all new clients of the tenant share."""
        return self._keyspace.client(tenant_id, NEW_CLIENTS)

    def client_named(self, tenant_id: int, public: str) -> bytes:
        """Return the key part of the tenant's client that has this `public_part`."""
        return self._keyspace.named(tenant_id, public)

    def compiled(self, rule: Rule) -> CompiledRule:
        """Return the compiled form of a rule of the book, made once."""
        compiled = self._compiled_rules.get(rule.id)
        if compiled is None:
            earlier = self._earlier.pop(rule.id, None)
            compiled = self._compiled_rules[rule.id] = (
                earlier if earlier is not None and self._still_good(earlier) else CompiledRule(rule)
            )
        return compiled

    def _handed_over(self) -> dict[int, CompiledRule]:
        """Hand all compiled rules to the next book. A check still under way with this book compiles its rule again."""
        few, many = sorted((self._compiled_rules, self._earlier), key=len)
        many.update(few)
        self._compiled_rules, self._earlier = {}, {}
        return many

    def take_over(self, pace: Pace) -> None:
        """Keep the previous compiled rules that are still valid and free the rest in pieces.

        Freeing 100,000 of them at once would take 60 ms. A check that comes earlier takes over its own.
        """
        for rule_id in pace(list(self._earlier)):
            compiled = self._earlier.pop(rule_id, None)
            if compiled is not None and self._still_good(compiled):
                self._compiled_rules[rule_id] = compiled

    def _still_good(self, compiled: CompiledRule) -> bool:
        return self.book.decides_by(compiled.rule) and (
            self._same_series or compiled.counts is RULE_COUNTS.of(compiled.rule.id)
        )


def _charged(match: Match, check: Check, own_client: bytes = b"") -> Charge:
    """Return the charge. `own_client`: the client's prefix, if it is charged as one of all new clients."""
    compiled, client, owners = match
    if check.request_id is None or not check.cost:
        return Charge(compiled, client, check.cost, None, owners)
    rule = compiled.rule
    name = answer_name(check.request_id, shadow=rule.shadow, client=own_client, layer=rule.layer)
    asked = meaning(check.limit_key, check.cost, check.groups) + compiled.terms
    return Charge(compiled, client, check.cost, ChargeRecord(name, asked), owners)
