"""Changes to rules, each one transaction: rows, versions, audit, and the version that makes every worker read again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

from psycopg2.errors import ForeignKeyViolation, LockNotAvailable, QueryCanceled
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from app.rules.documents import document_of, rule_of
from app.rules.editions import Editions
from app.rules.errors import Conflict, NotFound, Stale
from app.rules.examples import EXAMPLES
from app.rules.glob import is_pattern
from app.rules.history import CREATE, DELETE, REPLACE, ROLLBACK, UPDATE, Author, History, RuleChange
from app.rules.pace import Pace, at_once
from app.rules.pattern_bounds import keeping_matchable
from app.rules.repository import RuleRepository
from app.rules.rule import DEFAULT_TENANT_ID, Rule

MAX_RULES = 100_000  # of one tenant
TURNS = 12  # of 1.2 to 1.4 s each: longer than an import of the largest size takes on a busy machine
# A row is waited for in two steps, each as long as lock_timeout; together they can outlast statement_timeout.
WAITED = (LockNotAvailable, QueryCanceled)

# Whether the caller still means this rule (None: there is none), asked when no other change can come between.
Expected = Callable[[Rule | None], bool]
Who = tuple[str, str | None, bool]


def anything(_: Rule | None) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Merge:
    """What a set of rules changes: pairs are (before, after)."""

    created: list[Rule]
    replaced: list[tuple[Rule, Rule]]
    deleted: list[Rule]
    unchanged: list[Rule]

    @property
    def changes_anything(self) -> bool:
        return bool(self.created or self.replaced or self.deleted)


class RuleChanges:
    """Changes of one tenant's rules by one author. Each is durable on return, or raises and changes nothing."""

    def __init__(self, session: Session, tenant_id: int, author: Author, pace: Pace = at_once) -> None:
        self._session = session
        self._tenant_id = tenant_id
        self._author = author
        self._pace = pace
        self._rules = RuleRepository(session, pace)
        self._history = History(session, tenant_id)

    def put(self, rule: Rule, expected: Expected = anything) -> tuple[Rule, bool]:
        """Create the rule, or replace its twin: the one of the same client and endpoint. And whether it is new."""
        with changing(self._session):
            current = self._rules.twin(rule)
            _require(expected, current)
            if current is not None:
                return self._replace(REPLACE, current, rule), False
            self._require_room(1)
            with self._keeping_matchable([rule]):
                [stored] = self._rules.add([rule])
            self._record(RuleChange(CREATE, None, stored))
            return stored, True

    def edit(
        self, rule_id: int, edited: Callable[[Rule], Rule], expected: Expected = anything, action: str = UPDATE
    ) -> Rule:
        """Replace the rule by what `edited` makes of it."""
        with changing(self._session):
            current = self._current(rule_id, expected)
            rule = edited(current)
            twin = self._rules.twin(rule)
            if twin is not None and twin.id != rule_id:
                raise Conflict(f"rule {twin.id} is already the one of this client and endpoint")
            return self._replace(action, current, rule)

    def roll_back(self, rule_id: int, version: int, expected: Expected = anything) -> Rule:
        """Make the rule again what it was at that version, as a new version."""

        def as_it_was(_: Rule) -> Rule:
            row = self._history.version(rule_id, version)
            if row is None:
                raise NotFound(f"rule {rule_id} has no version {version}, or it is kept no longer")
            return rule_of(row.document, self._tenant_id)

        return self.edit(rule_id, as_it_was, expected, ROLLBACK)

    def delete(self, rule_id: int, expected: Expected = anything) -> None:
        with changing(self._session):
            current = self._current(rule_id, expected)
            self._rules.delete([current])
            self._record(RuleChange(DELETE, current, None))

    def compare(self, rules: Sequence[Rule], *, replace: bool) -> Merge:
        """What `merge` would change. Two of the rules must not be for the same client and endpoint."""
        current = {_who(rule): rule for rule in self._pace(self._rules.rules(self._tenant_id))}
        merge = Merge([], [], [], [])
        for rule in self._pace(rules):
            before = current.pop(_who(rule), None)
            if before is None:
                merge.created.append(rule)
            elif document_of(before) == document_of(rule):
                merge.unchanged.append(before)
            else:
                merge.replaced.append((before, rule))
        merge.deleted.extend(current.values() if replace else ())
        return merge

    def merge(self, rules: Sequence[Rule], *, replace: bool = False) -> Merge:
        """Create or replace all of the rules, or none; `replace` also deletes the others of the tenant."""
        with changing(self._session):
            wanted = self.compare(rules, replace=replace)
            if not wanted.changes_anything:
                self._session.rollback()
                return wanted
            self._rules.delete(wanted.deleted)
            self._require_room(len(wanted.created))
            with self._keeping_matchable(wanted.created):
                created = self._rules.add(wanted.created)
            done = Merge(
                created,
                list(zip([old for old, _ in wanted.replaced], self._rules.replace(wanted.replaced), strict=True)),
                wanted.deleted,
                wanted.unchanged,
            )
            self._record(*_changes(done))
            return done

    def _current(self, rule_id: int, expected: Expected) -> Rule:
        current = self._rules.get(self._tenant_id, rule_id)
        if current is None:
            raise NotFound(f"there is no rule {rule_id}")
        _require(expected, current)
        return current

    def _replace(self, action: str, current: Rule, rule: Rule) -> Rule:
        with self._keeping_matchable([rule] if rule.client_id != current.client_id else []):
            [stored] = self._rules.replace([(current, rule)])
        self._record(RuleChange(action, current, stored))
        return stored

    def _keeping_matchable(self, changed: Iterable[Rule]) -> AbstractContextManager[None]:
        if not any(is_pattern(rule.client_id) for rule in changed):
            return nullcontext()
        return keeping_matchable(partial(self._rules.patterns, self._tenant_id), self._pace)

    def _record(self, *changes: RuleChange) -> None:
        self._history.record(self._author, changes, self._pace)

    def _require_room(self, new: int) -> None:
        if new and self._rules.count(self._tenant_id) + new > MAX_RULES:
            raise Conflict(f"a tenant has at most {MAX_RULES} rules")


@contextmanager
def changing(session: Session) -> Iterator[None]:
    """One transaction that raises the version of all rules. Changes wait for one another from here on."""
    try:
        _take_turn(session)
        yield
        session.commit()
    except BaseException as error:
        session.rollback()
        if isinstance(error, IntegrityError) and isinstance(error.orig, ForeignKeyViolation):
            raise Conflict("the tenant was deleted meanwhile") from error  # its keys are good for another second
        raise


def _take_turn(session: Session) -> None:
    """Raise the version, which holds its row. Waits for other changes several times as long as a statement may."""
    for _ in range(TURNS - 1):
        try:
            Editions(session).bump()
            return
        except OperationalError as error:
            if not isinstance(error.orig, WAITED):
                raise
            session.rollback()
    Editions(session).bump()


def load_examples(session: Session) -> int:
    """Store the example rules, once in the life of a database: a deleted example stays deleted. Returns how many."""
    rules = RuleRepository(session)
    with changing(session):
        if not Editions(session).claim_examples():
            session.rollback()
            return 0
        stored = rules.add([rule for rule in EXAMPLES if rules.twin(rule) is None])
        author = Author("examples", "-")
        History(session, DEFAULT_TENANT_ID).record(author, [RuleChange(CREATE, None, rule) for rule in stored])
    return len(stored)


def _require(expected: Expected, current: Rule | None) -> None:
    if not expected(current):
        raise Stale(f"the rule is at version {current.version} now" if current else "there is no such rule now")


def _who(rule: Rule) -> Who:
    return rule.client_id, rule.endpoint, rule.shadow


def _changes(merge: Merge) -> Iterator[RuleChange]:
    yield from (RuleChange(CREATE, None, rule) for rule in merge.created)
    yield from (RuleChange(REPLACE, before, after) for before, after in merge.replaced)
    yield from (RuleChange(DELETE, rule, None) for rule in merge.deleted)
