"""No change gives a tenant more layers or limits than one check may charge. What exceeds them can still be changed."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy.orm import Session

from app.rules.errors import Conflict
from app.rules.matching.layer_bounds import MAX_LAYERS, MAX_LIMITS_OF_LAYERS
from app.rules.rule import MAX_LIMITS, Limit, Rule
from app.rules.sql.access.tenants import Tenants
from app.rules.sql.repository import RuleRepository
from tests.support.stored import AUTHOR, changes, rule

_numbers = count()


@pytest.fixture
def tenant_id(session: Session) -> int:
    """A tenant without rules."""
    name = f"layers-{next(_numbers)}"
    return Tenants(session).create(name, AUTHOR).id


def in_layer(layer: str, tenant_id: int, limits: int = 1, **fields: Any) -> Rule:
    return rule("a", *[Limit(5, 60 + number) for number in range(limits)], layer=layer, tenant_id=tenant_id, **fields)


def test_a_tenant_has_so_many_layers(session: Session, tenant_id: int) -> None:
    subject = changes(session, tenant_id)
    subject.merge([in_layer(f"layer-{number}", tenant_id) for number in range(MAX_LAYERS - 1)])
    last, _ = subject.put(in_layer("default", tenant_id))
    subject.put(in_layer("layer-0", tenant_id, endpoint="login"))
    for refused in (
        lambda: subject.put(in_layer("one-more", tenant_id, enabled=False)),
        lambda: subject.merge([in_layer("one-more", tenant_id, shadow=True)]),
        lambda: subject.trial([in_layer("one-more", tenant_id)], replace=False),
    ):
        with pytest.raises(Conflict, match="at most 8 layers: these would be 9") as refusal:
            refused()
        assert refusal.value.kind == "too-many"
    subject.edit(last.id, lambda stored: replace(stored, layer="one-more"))
    assert len(subject.trial([in_layer("another", tenant_id)], replace=True).deleted) == MAX_LAYERS + 1


def test_the_layers_have_so_many_limits_together(session: Session, tenant_id: int) -> None:
    """The largest rule of each layer counts, whether it is enabled or not, and whatever it is for."""
    subject = changes(session, tenant_id)
    subject.put(in_layer("default", tenant_id, MAX_LIMITS))
    subject.put(in_layer("default", tenant_id, MAX_LIMITS, endpoint="login"))
    half, _ = subject.put(in_layer("org", tenant_id, MAX_LIMITS, enabled=False))
    grows, _ = subject.edit(half.id, lambda stored: replace(stored, limits=stored.limits[:-1])), None
    subject.put(in_layer("protection", tenant_id))
    assert sum(RuleRepository(session).most_limits(tenant_id).values()) == MAX_LIMITS_OF_LAYERS
    for refused in (
        lambda: subject.put(in_layer("protection", tenant_id, 2, endpoint="login")),
        lambda: subject.put(in_layer("protection", tenant_id, 2)),
        lambda: subject.edit(grows.id, lambda stored: replace(stored, limits=half.limits)),
        lambda: subject.roll_back(half.id, 1),
        lambda: subject.merge([in_layer("one-more", tenant_id)]),
        lambda: subject.trial([in_layer("protection", tenant_id, 2)], replace=False),
    ):
        with pytest.raises(Conflict, match="at most 16 limits together: these would be 17") as refusal:
            refused()
        assert "default 8" in str(refusal.value)
    subject.put(replace(in_layer("allowed", tenant_id, action="allow"), limits=()))


def test_what_a_node_without_these_bounds_has_stored_can_be_changed(
    session: Session, tenant_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = changes(session, tenant_id)
    subject.put(in_layer("org", tenant_id, MAX_LIMITS))
    subject.put(in_layer("team", tenant_id, MAX_LIMITS))
    monkeypatch.setattr("app.rules.matching.layer_bounds.MAX_LIMITS_OF_LAYERS", 10)
    stored, _ = subject.put(in_layer("team", tenant_id, MAX_LIMITS, enabled=False))
    subject.edit(stored.id, lambda now: replace(now, limits=now.limits[:3]))
    with pytest.raises(Conflict, match="together"):
        subject.put(in_layer("team", tenant_id, 4))


def test_a_block_is_in_the_layer_default_alone(session: Session, tenant_id: int) -> None:
    subject = changes(session, tenant_id)
    subject.put(in_layer("org", tenant_id, endpoint="login"))
    done = subject.block("a")
    assert [(made.layer, made.endpoint) for made in done.created] == [("default", None)]
    assert not done.replaced
    assert len(subject.unblock("a").deleted) == 1


def test_no_number_of_layers_refuses_a_block(session: Session, tenant_id: int) -> None:
    """An emergency finds the tenant as it is. The next rule with limits in the layer default is refused as before."""
    subject = changes(session, tenant_id)
    subject.merge([in_layer(f"layer-{number}", tenant_id) for number in range(MAX_LAYERS)])
    assert len(subject.block("a").created) == 1
    with pytest.raises(Conflict, match="at most 8 layers: these would be 9"):
        subject.put(in_layer("default", tenant_id, endpoint="login"))
    assert len(subject.unblock("a").deleted) == 1
