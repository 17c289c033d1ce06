"""Finds rules that keep others from deciding.

The client precedes the endpoint: a rule for one client and any endpoint also precedes every protection of an endpoint
for all clients. Warnings name only surprises: a rule for one endpoint, or a block, that does not decide for some
clients. A client's rule preceding its pattern's rule is normal. Layers decide independently of one another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from heapq import heappop, heappush

from app.rules.matching.networks import IPV6_BITS, SUBSCRIBER_BITS, lies_in
from app.rules.matching.rule_overlap import comes_first, covers, is_wide
from app.rules.rule import Rule
from app.rules.sync.yielding import Pace, let_go, unpaced

MAX_PAIRS = 100_000  # comparisons of two rules at a time: 0.2 s
MAX_TOLD = 100
MAX_NAMED = 5  # rules named in one sentence

Place = tuple[str, str | None, bool]  # client, endpoint, shadow


def warnings(
    changed: Sequence[Rule], others: Iterable[Rule], *, before: Sequence[Rule] = (), pace: Pace = unpaced
) -> list[str]:
    """Return warnings for changed rules: rules they hide, rules that hide them, and rules that decide again.

    `before`: the earlier versions of the changed rules, which may have hidden other rules. `others`: the tenant's other
    rules, or those of `RuleRepository.beside`. Rules for groups are left out, and those of different layers do not hide
    one another.
    """
    told, others = list[str](), list(others)
    for layer in dict.fromkeys(rule.layer for rule in pace([*changed, *before])):
        ours, theirs, earlier = (_in_layer(layer, rules, pace) for rules in (changed, others, before))
        told += _warnings(ours, theirs, earlier, pace)
        if len(told) >= MAX_TOLD:
            break
    return told[:MAX_TOLD]


def _in_layer(layer: str, rules: Iterable[Rule], pace: Pace) -> list[Rule]:
    """Return the rules for clients in this layer."""
    return [rule for rule in pace(rules) if rule.layer == layer and rule.group is None]


def _warnings(changed: Sequence[Rule], others: Sequence[Rule], before: Sequence[Rule], pace: Pace) -> list[str]:
    """Return the warnings for rules of one layer."""
    own = _by_client(pace(others))
    told = [sentence for rule in pace(changed) if (sentence := _not_for(rule, own.get(rule.client_id, ())))]
    hidden = list(_pairs(changed, others, pace))
    told += [_hidden(lower, uppers) for lower, uppers in hidden]
    told += _again(before, hidden, others, pace) if before else []
    told += [sentence for rule in pace(changed) if (sentence := _of_no_proxy(rule))]
    let_go(pace, own)
    return told


def hides(upper: Rule, lower: Rule, apart: Collection[Place] = ()) -> bool:
    """Whether `upper` unexpectedly keeps `lower`, of the same layer, from deciding for some client.

    `apart`: clients and endpoints with a rule of their own, which `upper` does not affect.
    """
    if not (upper.enabled and lower.enabled) or upper.shadow is not lower.shadow or upper.action == "block":
        return False
    if upper.client_id == lower.client_id:
        return lower.action == "block" and lower.endpoint is None and upper.endpoint is not None
    if not (is_protection(lower) and comes_first(upper.client_id, lower.client_id)):
        return False
    if upper.endpoint is not None:
        return lower.action == "block" and lower.endpoint in (None, upper.endpoint)
    return lower.endpoint is None or _place(upper.client_id, lower) not in apart


def is_protection(rule: Rule) -> bool:
    """Whether the rule is a block, or is for one endpoint and more than one client."""
    return rule.action == "block" or (rule.endpoint is not None and is_wide(rule.client_id))


def _pairs(changed: Sequence[Rule], others: Sequence[Rule], pace: Pace) -> Iterator[tuple[Rule, list[Rule]]]:
    """Return each hidden rule with the rules that hide it, if one of the two was changed.

    Stops after MAX_PAIRS comparisons. Rules with the shortest client id, for the most clients, come first.
    """
    if not changed:
        return
    everything, ours, left = [*changed, *others], {id(rule) for rule in pace(changed)}, MAX_PAIRS
    apart = {_place(rule.client_id, rule) for rule in pace(everything) if rule.enabled and rule.endpoint is not None}
    for lower in pace(_widest_first(everything, pace)):
        candidates = everything if id(lower) in ours else changed
        left -= len(candidates)
        if left < 0:
            return
        uppers = [upper for upper in pace(candidates) if hides(upper, lower, apart)]
        if id(lower) in ours:  # rules of its own client are reported separately
            uppers = [upper for upper in uppers if upper.client_id != lower.client_id]
        if uppers:
            yield lower, uppers


def _widest_first(rules: Iterable[Rule], pace: Pace) -> Iterator[Rule]:
    """Return the protections, shortest client first. A heap, because a sort would be one long piece of work."""
    heap = list[tuple[int, int, int, Rule]]()
    for place, rule in enumerate(pace(rules)):
        if is_protection(rule):
            heappush(heap, (len(rule.client_id), rule.id, place, rule))
    while heap:
        yield heappop(heap)[-1]


def _place(client_id: str, rule: Rule) -> Place:
    return client_id, rule.endpoint, rule.shadow


def _by_client(rules: Iterable[Rule]) -> dict[str, list[Rule]]:
    """Return the enabled rules for one endpoint, by client."""
    found: defaultdict[str, list[Rule]] = defaultdict(list)
    for rule in rules:
        if rule.endpoint is not None and rule.enabled:
            found[rule.client_id].append(rule)
    return found


def _not_for(rule: Rule, own: Iterable[Rule]) -> str:
    """Return a warning if a rule for any endpoint does not decide on some: a block or an exemption relies on it."""
    if rule.endpoint is not None or not rule.enabled:
        return ""
    first = [
        f"{other.endpoint} (rule {other.id})"
        for other in own
        if other.shadow is rule.shadow and not other.action == rule.action == "block"
    ]
    return f"not for {_some(first)}: this client's rules for an endpoint come first" if first else ""


def _of_no_proxy(rule: Rule) -> str:
    """Return a warning if a rule is for part of a subscriber's network."""
    network = lies_in(rule.client_id)
    if network is None or network.bits != IPV6_BITS or network.prefix <= SUBSCRIBER_BITS:
        return ""
    return (
        f"{described(rule)} is not for clients that forward authentication names: of IPv6 those are networks"
        f" of /{SUBSCRIBER_BITS}, and none of them lies in {rule.client_id}"
    )


def _hidden(lower: Rule, uppers: Sequence[Rule]) -> str:
    names = [
        upper.client_id + (f" on {upper.endpoint}" if upper.endpoint else "") + (f" (rule {upper.id})" * (upper.id > 0))
        for upper in uppers
    ]
    comes = "whose own rule comes first" if len(uppers) == 1 else "whose own rules come first"
    return f"{described(lower)} does not decide for {_some(names)}, {comes}"


def _again(
    before: Sequence[Rule], hidden: Sequence[tuple[Rule, list[Rule]]], others: Sequence[Rule], pace: Pace
) -> list[str]:
    """Return sentences about rules that were hidden before and no longer are. Stops as `_pairs` does."""
    still = {(lower.id, upper.client_id) for lower, uppers in hidden for upper in uppers}
    gone, told, left = {rule.id for rule in pace(before)}, [], MAX_PAIRS
    for lower, uppers in _pairs(before, others, pace):
        clients = []
        for upper in pace(() if lower.id in gone else uppers):
            if (lower.id, upper.client_id) in still:
                continue
            left -= len(others)
            if left < 0:
                break
            if not any(_stands_between(other, upper.client_id, lower) for other in pace(others)):
                clients.append(upper.client_id)
        if clients:
            told.append(f"{described(lower)} decides for {_some(clients)} again")
        if left < 0:
            break
    return told


def _stands_between(rule: Rule, client_id: str, lower: Rule) -> bool:
    """Whether the rule decides for the client (or pattern) before `lower` does."""
    of_client = rule.client_id == client_id or covers(rule.client_id, client_id)
    return (
        of_client
        and rule.enabled
        and rule.shadow is lower.shadow
        and rule.endpoint in (None, lower.endpoint)
        and comes_first(rule.client_id, lower.client_id)
    )


def described(rule: Rule) -> str:
    """Describe the rule in a sentence."""
    words = [rule.pattern, rule.endpoint or "any endpoint", *(["block"] if rule.action == "block" else [])]
    return f"rule {rule.id if rule.id > 0 else 'to be made'} ({', '.join(words)})"


def _some(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and at least {more} more" if more > 0 else "")
