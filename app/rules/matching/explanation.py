"""Explains why a rule decides a check, and why each other candidate does not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced

from msgspec.structs import replace

from app.rules.matching.networks import network_of
from app.rules.matching.pattern_index import Matches
from app.rules.matching.tenant_rules import TenantRules
from app.rules.rule import DEFAULT_RULE_ID, Rule
from app.rules.rule_book import RuleBook, Snapshot
from app.rules.sync.yielding import Pace, unpaced


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rule whose client matches. `wins`: it decides, or as a shadow it is decided beside the enforced rule.

    `hidden_by`: the rule that decides for this client instead, for every limit_key.
    """

    rule: Rule
    wins: bool
    why: str
    hidden_by: Rule | None = None


def explain(
    book: RuleBook,
    tenant_id: int,
    client_id: str,
    limit_key: str,
    *,
    disabled: Sequence[Rule] = (),
    pace: Pace = unpaced,
) -> list[Candidate]:
    """Return every candidate for the check in precedence order: enforced, shadows, the default, then `disabled`."""
    winner = book.match(tenant_id, client_id, limit_key)
    shadow = book.match_shadow(tenant_id, client_id, limit_key)
    rules = book.candidates(tenant_id, client_id)
    hiders = hidden_by(rule for rule in rules if not rule.shadow) | hidden_by(rule for rule in rules if rule.shadow)
    candidates = [
        replaced(_judged(rule, shadow if rule.shadow else winner, limit_key), hidden_by=hiders.get(rule.id))
        for rule in rules
    ]
    asleep = _as_if_enabled(disabled, pace).candidates(tenant_id, client_id)
    return candidates + [Candidate(replace(rule, enabled=False), False, "it is disabled") for rule in asleep[:-1]]


def hidden_by(candidates: Iterable[Rule]) -> dict[int, Rule]:
    """Return, by candidate id, the rule that decides instead on all keys of the candidate.

    Input: most specific first.
    """
    first: dict[str | None, tuple[int, Rule]] = {}  # by endpoint: the first rule for it, and its index
    found = {}
    for place, rule in enumerate(candidates):
        before = [first[endpoint] for endpoint in {None, rule.endpoint} if endpoint in first]
        if before:
            found[rule.id] = min(before, key=lambda each: each[0])[1]
        first.setdefault(rule.endpoint, (place, rule))
    return found


def deciding(rules: Iterable[Rule], client_id: str) -> list[Rule]:
    """Return the rules of a tenant that decide some check of the client, the most specific first."""
    enforced = TenantRules()
    for rule in rules:
        if rule.enabled and not rule.shadow:
            enforced.add(rule)
    enforced.index_patterns(None, Matches(), unpaced)
    candidates = enforced.candidates(client_id)
    hidden = hidden_by(candidates)
    return [rule for rule in candidates if rule.id not in hidden]


def _judged(rule: Rule, winner: Rule | None, limit_key: str) -> Candidate:
    if winner is not None and rule.id == winner.id:
        return Candidate(rule, True, _why_it_wins(rule))
    if rule.endpoint not in (None, limit_key):
        return Candidate(rule, False, f"it is for the endpoint {rule.endpoint} only")
    if rule.id == DEFAULT_RULE_ID:
        return Candidate(rule, False, "the default decides only where no stored rule matches")
    return Candidate(rule, False, f"rule {winner.id if winner else '?'} is more specific")


def _why_it_wins(rule: Rule) -> str:
    if rule.id == DEFAULT_RULE_ID:
        return "no stored rule matches"
    literal, network = len(rule.client_id.replace("*", "")), network_of(rule.client_id)
    if network is not None:
        client = f"of the client's networks with a rule for this endpoint it has the longest prefix, {network.prefix}"
    elif "*" not in rule.client_id:
        client = "it names the client"
    elif literal:
        client = f"of the patterns with a rule for this endpoint it has the most literal characters, {literal}"
    else:
        client = "it is for every client, and none more specific has a rule for this endpoint"
    endpoint = "any endpoint" if rule.endpoint is None else "the endpoint"
    beside = "; a shadow, so it is decided beside the enforced rule" if rule.shadow else ""
    return f"{client}; it is for {endpoint}{beside}"


def _as_if_enabled(rules: Sequence[Rule], pace: Pace) -> RuleBook:
    awake = tuple(replace(rule, enabled=True) for rule in pace(rules))
    default = Rule(id=DEFAULT_RULE_ID, client_id="*", limits=())
    return RuleBook(Snapshot(0, b"", awake), default=default, algorithm="token_bucket", pace=pace)
