"""A set of changes to several rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from app.rules.actions import Pair
from app.rules.documents import document_of
from app.rules.rule import Rule
from app.rules.sql.history import CREATE, DELETE, REPLACE, RuleChange


@dataclass(frozen=True, slots=True)
class Merge:
    """The changes of a set of rules: pairs are (before, after). `others`: the tenant's rules outside the set."""

    created: list[Rule]
    replaced: list[tuple[Rule, Rule]]
    deleted: list[Rule]
    unchanged: list[Rule]
    others: list[Rule] = field(default_factory=list)

    @classmethod
    def of(cls, pairs: Iterable[Pair]) -> Merge:
        """Sort the pairs (before, after) by kind of change; None: no rule."""
        merge = cls([], [], [], [])
        for before, after in pairs:
            if before is None:
                merge.created.extend([after] if after else [])
            elif after is None:
                merge.deleted.append(before)
            elif document_of(before) == document_of(after):
                merge.unchanged.append(before)
            else:
                merge.replaced.append((before, after))
        return merge

    def lists(self) -> tuple[list[Any], ...]:
        """Return the lists for `let_go`, once the merge is no longer needed."""
        return self.created, self.replaced, self.deleted, self.unchanged, self.others

    @property
    def changes_anything(self) -> bool:
        return bool(self.created or self.replaced or self.deleted)

    def found(self) -> Iterator[Rule | None]:
        """Yield the present state of each rule of the set; None: there is no such rule yet."""
        yield from (None for _ in self.created)
        yield from self.unchanged
        yield from (before for before, _ in self.replaced)

    def gone(self) -> set[tuple[int, int]]:
        """Return the ids and versions of rules that these changes remove."""
        return {(rule.id, rule.version) for rule in (*self.deleted, *(before for before, _ in self.replaced))}

    def changes(self, action: str | None) -> Iterator[RuleChange]:
        """Yield the changes for the history.

        `action` names created and replaced rules; None: the usual name of each change.
        """
        yield from (RuleChange(action or CREATE, None, rule) for rule in self.created)
        yield from (RuleChange(action or REPLACE, before, after) for before, after in self.replaced)
        yield from (RuleChange(DELETE, rule, None) for rule in self.deleted)
