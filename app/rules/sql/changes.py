"""Changes of rules.

Each is one transaction with rows, versions, audit, and the version that makes workers read again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from msgspec.structs import replace
from sqlalchemy.orm import Session

from app.rules.actions import Version, blocked, promoted, unblocked
from app.rules.documents import rule_of
from app.rules.errors import Conflict, NotFound, Stale
from app.rules.examples import EXAMPLES
from app.rules.matching.glob import is_pattern
from app.rules.matching.layer_bounds import keeping_few_layers, most_limits_of
from app.rules.matching.pattern_bounds import keeping_matchable, patterns_of
from app.rules.rule import DEFAULT_LAYER, DEFAULT_TENANT_ID, Rule
from app.rules.sql import history
from app.rules.sql.database.transactions import versioned_transaction
from app.rules.sql.history import CREATE, DELETE, REPLACE, ROLLBACK, UPDATE, Author, History, RuleChange
from app.rules.sql.merge import Merge
from app.rules.sql.repository import RuleRepository
from app.rules.sql.ruleset_version import RulesetVersions
from app.rules.sync.yielding import Pace, let_go, unpaced

MAX_RULES = 100_000  # per tenant
VERSIONS_SEARCHED = 1000  # versions of a rule, to find its state before a block

# Whether the rule (None: none exists) is still the one that the caller expects. Called under the tenant's lock.
Expected = Callable[[Rule | None], bool]


def anything(_: Rule | None) -> bool:
    return True


class RuleChanges:
    """One tenant's changes of rules by one author. Each is durable on return, or raises and changes nothing."""

    def __init__(self, session: Session, tenant_id: int, author: Author, pace: Pace = unpaced) -> None:
        self._session = session
        self._tenant_id = tenant_id
        self._author = author
        self._pace = pace
        self._rules = RuleRepository(session, pace)
        self._history = History(session, tenant_id)

    def put(self, rule: Rule, expected: Expected = anything) -> tuple[Rule, bool]:
        """Create the rule, or replace its twin: the one of the same layer, client or group, endpoint and shadow flag.

        Return the rule and whether it is new.
        """
        with versioned_transaction(self._session, self._tenant_id):
            current = self._rules.twin(rule)
            _require(expected, current)
            if current is not None:
                return self._replace(REPLACE, current, rule), False
            self._require_room(1)
            with self._within_bounds([(None, rule)]):
                [stored] = self._rules.add([rule])
            self._record([RuleChange(CREATE, None, stored)])
            return stored, True

    def edit(
        self, rule_id: int, edited: Callable[[Rule], Rule], expected: Expected = anything, action: str = UPDATE
    ) -> Rule:
        """Replace the rule with the result of `edited`."""
        with versioned_transaction(self._session, self._tenant_id):
            current = self._current(rule_id, expected)
            rule = edited(current)
            twin = self._rules.twin(rule)
            if twin is not None and twin.id != rule_id:
                raise Conflict(f"rule {twin.id} has this layer, client or group, and endpoint already", "rule-exists")
            return self._replace(action, current, rule)

    def roll_back(self, rule_id: int, version: int, expected: Expected = anything) -> Rule:
        """Restore the rule's fields of that version, as a new version."""

        def as_it_was(_: Rule) -> Rule:
            row = self._history.version(rule_id, version)
            if row is None:
                raise NotFound(f"rule {rule_id} has no version {version}, or it was pruned")
            return rule_of(row.document, self._tenant_id)

        return self.edit(rule_id, as_it_was, expected, ROLLBACK)

    def delete(self, rule_id: int, expected: Expected = anything) -> None:
        with versioned_transaction(self._session, self._tenant_id):
            current = self._current(rule_id, expected)
            self._rules.delete([current])
            self._record([RuleChange(DELETE, current, None)])

    def compare(self, rules: Sequence[Rule], *, replace: bool) -> Merge:
        """Return the changes that `merge` would make. No two rules may have the same identity."""
        current = {rule.identity: rule for rule in self._pace(self._rules.rules(self._tenant_id))}
        merge = Merge.of((current.pop(rule.identity, None), rule) for rule in self._pace(rules))
        (merge.deleted if replace else merge.others).extend(current.values())
        return merge

    def trial(self, rules: Sequence[Rule], *, replace: bool) -> Merge:
        """As `compare`. Raises Conflict where `merge` would, beyond a bound of the tenant."""
        merge = self.compare(rules, replace=replace)
        kept = [*merge.unchanged, *merge.others]
        before = [*kept, *(old for old, _ in self._pace(merge.replaced))]
        after = [*kept, *merge.created, *(new for _, new in self._pace(merge.replaced))]
        if merge.created and len(after) > MAX_RULES:
            raise _too_many_rules()
        patterns = iter([patterns_of(self._pace(rules)) for rules in (before, after)])
        most_limits = iter([most_limits_of(self._pace(rules)) for rules in (before, after)])
        with keeping_matchable(patterns.__next__, self._pace), keeping_few_layers(most_limits.__next__):
            return merge

    def merge(
        self,
        rules: Sequence[Rule],
        *,
        replace: bool = False,
        agreed: Merge | None = None,
        expected: Expected = anything,
    ) -> Merge:
        """Create or replace all of the rules, or none; `replace` also deletes the tenant's other rules.

        `agreed`: the changes that the caller has seen. Raises Stale if other rules would now be replaced or deleted.
        `expected` is asked about the present state of each of the rules.
        """

        def wanted() -> Merge:
            merge = self.compare(rules, replace=replace)
            if expected is not anything:
                for current in merge.found():
                    _require(expected, current)
            if agreed is not None and merge.gone() - agreed.gone():
                raise Stale("the rules have changed since you read them: read them again")
            return merge

        return self.carry_out(wanted)

    def carry_out(self, wanted: Callable[[], Merge], action: str | None = None) -> Merge:
        """Make all changes that `wanted` returns, or none. `wanted` is called under the tenant's lock.

        `action` is the history's name for created and replaced rules; None: the usual name of each change.
        """
        with versioned_transaction(self._session, self._tenant_id):
            merge = wanted()
            if not merge.changes_anything:
                self._session.rollback()
                return merge
            self._rules.delete(merge.deleted)
            self._require_room(len(merge.created))
            with self._within_bounds([*((None, rule) for rule in self._pace(merge.created)), *merge.replaced]):
                created = self._rules.add(merge.created)
                replaced = self._rules.replace(merge.replaced)
            old = (before for before, _ in self._pace(merge.replaced))
            done = Merge(created, list(zip(old, replaced, strict=True)), merge.deleted, merge.unchanged, merge.others)
            self._record(done.changes(action))
            return done

    def block(self, client_id: str) -> Merge:
        """Block exactly this client or pattern, on every endpoint. A block in the layer default suffices for all."""
        return self.carry_out(
            lambda: Merge.of(blocked(client_id, self._tenant_id, self._enforced(client_id))), history.BLOCK
        )

    def unblock(self, client_id: str) -> Merge:
        """Unblock this client or pattern, restoring its rules from before the block."""

        def versions(rule: Rule) -> list[Version]:
            rows, _ = self._history.versions(rule.id, 0, VERSIONS_SEARCHED)
            return [Version(row.action, row.document) for row in rows]

        return self.carry_out(
            lambda: Merge.of(unblocked(self._enforced(client_id), versions, history.BLOCK)), history.UNBLOCK
        )

    def promote(self, rule_id: int, expected: Expected = anything, of_twin: Expected = anything) -> Rule:
        """Enforce a shadow rule. A twin is replaced, and keeps its id and its counters."""

        def wanted() -> Merge:
            shadow = self._current(rule_id, expected)
            twin = self._rules.twin(replace(shadow, shadow=False))
            _require(of_twin, twin)
            rule = promoted(shadow, twin)
            return Merge.of([(shadow, rule)] if twin is None else [(twin, rule), (shadow, None)])

        done = self.carry_out(wanted, history.PROMOTE)
        return done.replaced[0][1] if done.replaced else done.unchanged[0]

    def _enforced(self, client_id: str) -> list[Rule]:
        return self._rules.rules(self._tenant_id, client_id=client_id, layer=DEFAULT_LAYER, shadow=False)

    def _current(self, rule_id: int, expected: Expected) -> Rule:
        current = self._rules.get(self._tenant_id, rule_id)
        if current is None:
            raise NotFound(f"there is no rule {rule_id}")
        _require(expected, current)
        return current

    def _replace(self, action: str, current: Rule, rule: Rule) -> Rule:
        with self._within_bounds([(current, rule)]):
            [stored] = self._rules.replace([(current, rule)])
        self._record([RuleChange(action, current, stored)])
        return stored

    @contextmanager
    def _within_bounds(self, pairs: Sequence[tuple[Rule | None, Rule]]) -> Iterator[None]:
        """Changes rules inside: each pair is a rule before and after. Raises Conflict beyond a bound of the tenant."""
        with ExitStack() as bounds:
            if any(_has_new_pattern(*pair) for pair in self._pace(pairs)):
                bounds.enter_context(keeping_matchable(partial(self._rules.patterns, self._tenant_id), self._pace))
            if any(rule.needs for _, rule in self._pace(pairs)) or self._rules.has_layers(self._tenant_id):
                bounds.enter_context(keeping_few_layers(partial(self._rules.most_limits, self._tenant_id)))
            yield

    def _record(self, changes: Iterable[RuleChange]) -> None:
        recorded = list(self._pace(changes))
        self._history.record(self._author, recorded, self._pace)
        let_go(self._pace, recorded)

    def _require_room(self, new: int) -> None:
        if new and self._rules.count(self._tenant_id) + new > MAX_RULES:
            raise _too_many_rules()


def load_examples(session: Session) -> int:
    """Store the example rules, once per database: a deleted example stays deleted. Return their number."""
    rules = RuleRepository(session)
    with versioned_transaction(session, DEFAULT_TENANT_ID):
        if not RulesetVersions(session).claim_examples():
            session.rollback()
            return 0
        stored = rules.add([rule for rule in EXAMPLES if rules.twin(rule) is None])
        author = Author("examples", "-")
        History(session, DEFAULT_TENANT_ID).record(author, [RuleChange(CREATE, None, rule) for rule in stored])
    return len(stored)


def _too_many_rules() -> Conflict:
    return Conflict(f"a tenant has at most {MAX_RULES} rules", "too-many")


def _has_new_pattern(before: Rule | None, rule: Rule) -> bool:
    """Whether its layer and its client or group, a pattern, are new."""
    return is_pattern(rule.pattern) and (before is None or before.identity[:3] != rule.identity[:3])


def _require(expected: Expected, current: Rule | None) -> None:
    if not expected(current):
        raise Stale(f"the rule is at version {current.version} now" if current else "there is no such rule now")
