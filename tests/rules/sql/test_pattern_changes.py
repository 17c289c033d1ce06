"""No change of rules makes a tenant's patterns dear to match; what is stored can still be changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
from msgspec.structs import replace
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from app.rules.errors import Conflict
from app.rules.matching.pattern_bounds import MAX_TRIED
from app.rules.rule import Rule
from app.rules.sql.repository import RuleRepository
from tests.support.stored import changes, put_rule, rule

# As many as there may be of which every one has to be tried for the client `aaa…`.
ALIKE = [rule(f"{'a' * head}*{'b' * tail}") for head in range(1, 21) for tail in range(1, 16)]
ONE_MORE = f"{'a' * 21}*bb"


class Crowd(NamedTuple):
    """A tenant with those patterns, a rule of one client, and one that was for the pattern beyond them once."""

    plain: Rule
    renamed: Rule


@pytest.fixture(scope="module")
def crowd(engine: Engine) -> Crowd:
    assert len(ALIKE) == MAX_TRIED
    with Session(engine) as session:
        renamed, _ = put_rule(session, rule(ONE_MORE))
        renamed = changes(session).edit(renamed.id, lambda current: replace(current, client_id="renamed"))
        changes(session).merge(ALIKE)
        return Crowd(put_rule(session, rule("plain"))[0], renamed)


WAYS: dict[str, Callable[[Session, Crowd], object]] = {
    "put": lambda session, _: put_rule(session, rule(ONE_MORE)),
    "put a shadow": lambda session, _: put_rule(session, rule(ONE_MORE, shadow=True)),
    "merge": lambda session, _: changes(session).merge([rule("innocent"), rule(ONE_MORE)]),
    "edit": lambda session, crowd: changes(session).edit(
        crowd.plain.id, lambda current: replace(current, client_id=ONE_MORE)
    ),
    "roll back": lambda session, crowd: changes(session).roll_back(crowd.renamed.id, 1),
}


@pytest.mark.parametrize("way", WAYS)
def test_one_pattern_too_many_is_refused_however_it_comes(session: Session, crowd: Crowd, way: str) -> None:
    before = RuleRepository(session).rules(1)
    with pytest.raises(Conflict, match="resembles too many others"):
        WAYS[way](session, crowd)
    assert RuleRepository(session).rules(1) == before


def test_another_tenant_is_not_concerned(session: Session, crowd: Crowd) -> None:
    put_rule(session, rule(ONE_MORE, tenant_id=2))


def test_other_changes_are_made(session: Session, crowd: Crowd) -> None:
    stored, _ = put_rule(session, rule(ALIKE[0].client_id, endpoint="login"))
    put_rule(session, rule("unlike_*"))
    changes(session).edit(stored.id, lambda current: replace(current, enabled=False))
    changes(session).merge([rule("one"), rule("un*like")])
    changes(session).delete(stored.id)


def test_one_pattern_may_take_the_place_of_another(session: Session, crowd: Crowd) -> None:
    [taken] = RuleRepository(session).rules(1, client_id=ALIKE[-1].client_id)
    changes(session).edit(taken.id, lambda current: replace(current, client_id=ONE_MORE))
    changes(session).edit(taken.id, lambda current: replace(current, client_id=ALIKE[-1].client_id))
    changes(session).merge([rule(ONE_MORE), rule("plain")], replace=True)


def test_a_stored_pattern_of_many_stars_can_be_changed_and_not_made_anew(session: Session) -> None:
    stored, _ = put_rule(session, rule("a*b"))
    many = {"id": stored.id, "client_id": "a*b*c*d*e*f"}
    session.execute(text("UPDATE rules SET client_id = :client_id WHERE id = :id"), many)
    session.commit()
    edited = changes(session).edit(stored.id, lambda current: replace(current, enabled=False))
    assert (edited.client_id, edited.enabled) == ("a*b*c*d*e*f", False)
    changes(session).edit(stored.id, lambda current: replace(current, client_id="gone"))
    with pytest.raises(Conflict, match=r"more than 4 \*"):
        changes(session).roll_back(stored.id, 2)
