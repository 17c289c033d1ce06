"""Explains why a rule decides a check, and why each other candidate does not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced

from msgspec.structs import replace

from app.rules.matching.layered_rules import Deciding
from app.rules.matching.networks import network_of
from app.rules.matching.pattern_index import Matches
from app.rules.matching.tenant_rules import TenantRules
from app.rules.rule import DEFAULT_RULE_ID, Rule
from app.rules.rule_book import RuleBook, Snapshot
from app.rules.sync.yielding import Pace, unpaced


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rule that matches the client, or a group of it (`group`).

    `wins`: it decides for its layer, or as a shadow it is decided beside the enforced rule. `hidden_by`: the rule of
    its layer that decides for this client instead, for every limit_key.
    """

    rule: Rule
    wins: bool
    why: str
    hidden_by: Rule | None = None
    group: str | None = None


def explain(
    book: RuleBook,
    tenant_id: int,
    client_id: str,
    limit_key: str,
    *,
    groups: Sequence[str] = (),
    disabled: Sequence[Rule] = (),
    pace: Pace = unpaced,
) -> list[Candidate]:
    """Return every candidate for the check: enforced, shadows, the default, then `disabled`.

    The first two are in the order of layers, and within a layer in that of precedence.
    """
    deciding = (
        *book.deciding(tenant_id, client_id, limit_key, groups),
        *book.deciding_shadows(tenant_id, client_id, limit_key, groups),
    )
    winners = {(each.rule.layer, each.rule.shadow): each for each in deciding}
    found = book.candidates(tenant_id, client_id, groups)
    hiders = _hiders(found)
    candidates = [
        replaced(_judged(each, winners.get((each.rule.layer, each.rule.shadow)), limit_key), hidden_by=hider)
        for each, hider in zip(found, hiders, strict=True)
    ]
    asleep = _as_if_enabled(disabled, pace).candidates(tenant_id, client_id, groups)[:-1]
    return candidates + [
        Candidate(replace(each.rule, enabled=False), False, "it is disabled", group=each.group) for each in asleep
    ]


def hidden(candidates: Sequence[Deciding]) -> set[int]:
    """Return the ids of enforced candidates that decide no check of the client. Input: as `RuleBook.candidates`."""
    pairs = zip(candidates, _hiders(candidates), strict=True)
    return {each.rule.id for each, hider in pairs if hider is not None and not each.rule.shadow}


def _hiders(candidates: Iterable[Deciding]) -> list[Rule | None]:
    """Return, for each candidate, the rule of its layer that decides instead on all of its keys.

    Input: most specific first.
    """
    first: dict[tuple[str, bool, str | None], tuple[int, Rule]] = {}  # the first rule for an endpoint, and its index
    found: list[Rule | None] = []
    for place, (rule, _) in enumerate(candidates):
        layer = rule.layer, rule.shadow
        known = [first.get((*layer, endpoint)) for endpoint in {None, rule.endpoint}]
        before = [each for each in known if each is not None]
        hider = min(before, key=lambda each: each[0])[1] if before else None
        found.append(None if hider is rule else hider)  # a rule may match two groups
        first.setdefault((*layer, rule.endpoint), (place, rule))
    return found


def deciding(rules: Iterable[Rule], client_id: str) -> list[Rule]:
    """Return the rules of a tenant that decide some check of the client without groups, layer by layer, the most
    specific first.
    """
    layers: dict[str, TenantRules] = {}
    for rule in rules:
        if rule.enabled and not rule.shadow and rule.group is None:
            layers.setdefault(rule.layer, TenantRules()).add(rule)
    found = []
    for layer in layers.values():
        layer.index_patterns(None, Matches(), unpaced)
        candidates = layer.candidates(client_id)
        hiders = _hiders(map(Deciding, candidates))
        found += [rule for rule, hider in zip(candidates, hiders, strict=True) if hider is None]
    return found


def _judged(candidate: Deciding, winner: Deciding | None, limit_key: str) -> Candidate:
    rule, group = candidate
    if winner is not None and (rule.id, group) == (winner.rule.id, winner.group):
        return Candidate(rule, True, _why_it_wins(rule, group), group=group)
    if rule.endpoint not in (None, limit_key):
        why = f"it is for the endpoint {rule.endpoint} only"
    elif rule.id == DEFAULT_RULE_ID:
        why = "the default decides only where no stored rule matches"
    elif winner is not None and rule.id == winner.rule.id:
        why = f"the group {winner.group} comes first"
    else:
        why = f"rule {winner.rule.id if winner else '?'} is more specific"
    return Candidate(rule, False, why, group=group)


def _why_it_wins(rule: Rule, group: str | None) -> str:
    if rule.id == DEFAULT_RULE_ID:
        return "no stored rule matches"
    endpoint = "any endpoint" if rule.endpoint is None else "the endpoint"
    beside = "; a shadow, so it is decided beside the enforced rule" if rule.shadow else ""
    return f"{_why_of_client(rule) if group is None else _why_of_group(rule, group)}; it is for {endpoint}{beside}"


def _why_of_client(rule: Rule) -> str:
    literal, network = len(rule.client_id.replace("*", "")), network_of(rule.client_id)
    if network is not None:
        return f"of the client's networks with a rule for this endpoint it has the longest prefix, {network.prefix}"
    if "*" not in rule.client_id:
        return "it names the client"
    if literal:
        return f"of the patterns with a rule for this endpoint it has the most literal characters, {literal}"
    return "it is for every client, and none more specific has a rule for this endpoint"


def _why_of_group(rule: Rule, group: str) -> str:
    literal = len(rule.pattern.replace("*", ""))
    if "*" not in rule.pattern:
        why = f"it names the group {group}"
    elif literal:
        why = f"of the patterns of the group {group} it has the most literal characters, {literal}"
    else:
        why = f"it is for every group, so for {group}"
    return f"{why}, and no rule that precedes groups is for this endpoint"


def _as_if_enabled(rules: Sequence[Rule], pace: Pace) -> RuleBook:
    awake = tuple(replace(rule, enabled=True) for rule in pace(rules))
    default = Rule(id=DEFAULT_RULE_ID, client_id="*", limits=())
    return RuleBook(Snapshot(0, b"", awake), default=default, algorithm="token_bucket", pace=pace)
