"""Several rules compiled into one: all of their limits admit a check and are charged together, or none is."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, groupby

from msgspec.structs import replace

from app.limiter.compiled_rule import Charge, CompiledRule
from app.limiter.decision import Decision
from app.limiter.redis.packing import read_terms, terms_of
from app.limiter.redis.scripts import check_joint_script
from app.rules.rule import Limit


class JointRule(CompiledRule, gc=False, eq=False):
    """The compiled rules that decide a check together, in the order of their layers. Made by `joined`.

    `rule` stands for all of them: it has their limits, and otherwise the fields of the first. Limits are numbered from
    that of the first part. A charge of it names `owners`, the prefixes of the counters.
    """

    parts: tuple[CompiledRule, ...] = ()
    owned: tuple[int, ...] = ()  # by part: index in the owners of a charge
    starts: tuple[int, ...] = ()  # by part: number of its first limit
    # Shared counters: the part, the index of their owner, and the key suffix.
    shared: tuple[tuple[CompiledRule, int, bytes], ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.counter_names = tuple(name for part in self.parts for name in part.counter_names)
        self.packed_keys = ()  # `keys_of` is used instead
        self.starts = (0, *accumulate(len(part.counter_names) for part in self.parts[:-1]))
        owned = zip(self.parts, self.owned, strict=True)
        shared = ((part, owner) for part, owner in owned if part.rule.shared)
        self.shared = tuple((part, owner, name) for part, owner in shared for name in part.counter_names)
        if len(self.counter_names) > 1:
            self.script = check_joint_script()

    def place(self, binding: int) -> tuple[CompiledRule, int]:
        """Return the part that has the limit of that number, and the limit's index in it."""
        at = bisect_right(self.starts, binding) - 1
        return self.parts[at], binding - self.starts[at]

    def owner_of(self, binding: int, owners: Sequence[bytes]) -> bytes:
        """Return the prefix of the counter of the limit of that number."""
        return owners[self.owned[bisect_right(self.starts, binding) - 1]]

    def keys_of(self, owners: Sequence[bytes]) -> bytes:
        owned = zip(self.parts, self.owned, strict=True)
        return b"".join([owners[owner].join(part.packed_keys) for part, owner in owned])

    @property
    def terms(self) -> bytes:
        """The rule ids and limits that an answer depends on, as those of a single rule."""
        return terms_of([part.rule.id for part in self.parts for _ in part.counter_names], self.rule.limits)


def joined(parts: Sequence[CompiledRule], owned: Sequence[int]) -> JointRule:
    """Return the rule that decides by all parts. `owned`: by part, the index in the owners of its charges."""
    limits = tuple(limit for part in parts for limit in part.rule.limits)
    return JointRule(replace(parts[0].rule, limits=limits), parts[0].counts, parts=tuple(parts), owned=tuple(owned))


@lru_cache(maxsize=1024)  # the local fallback makes a share of each
def only(joint: JointRule, parts: tuple[int, ...]) -> JointRule:
    """Return the rule that decides by the parts of these indexes alone, for charges with the same owners."""
    return joined([joint.parts[part] for part in parts], [joint.owned[part] for part in parts])


def owned_parts(charge: Charge) -> list[tuple[CompiledRule, bytes]]:
    """Return each rule that decides the charge, with the prefix of its counters."""
    joint = charge.compiled
    if not isinstance(joint, JointRule):
        return [(joint, charge.client)]
    return [(part, charge.owners[owner]) for part, owner in zip(joint.parts, joint.owned, strict=True)]


def of_part(decision: Decision) -> Decision:
    """Return the decision of a joint rule as one of the part with the binding limit; any other decision as it is."""
    joint, outcome = decision.compiled, decision.outcome
    if not isinstance(joint, JointRule):
        return decision
    part, binding = joint.place(outcome.binding)
    return replace(decision, compiled=part, outcome=replace(outcome, binding=binding), joint=joint)


@lru_cache(maxsize=1024)  # each has templates of its answers
def as_of(compiled: CompiledRule, terms: bytes) -> CompiledRule:
    """Return the compiled rule with earlier terms: of this rule, or of others in its place."""
    ids, limits = read_terms(terms)
    counts = {part.rule.id: part.counts for part in compiled.parts} if isinstance(compiled, JointRule) else {}

    def earlier(rule_id: int, limits: list[Limit]) -> CompiledRule:
        rule = replace(compiled.rule, id=rule_id, limits=tuple(limits))
        return CompiledRule(rule, counts.get(rule_id, compiled.counts))

    if isinstance(ids, int):
        return earlier(ids, limits)
    every = groupby(zip(ids, limits, strict=True), key=lambda pair: pair[0])
    parts = [earlier(rule_id, [limit for _, limit in pairs]) for rule_id, pairs in every]
    return joined(parts, [0] * len(parts))
