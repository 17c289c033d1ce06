"""Bounds how many layers a tenant may have, and how many limits may decide one check, which charges all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from app.rules.errors import Conflict
from app.rules.rule import DEFAULT_LAYER, Rule

MAX_LAYERS = 8  # per tenant
# One rule of each layer decides a check. The built-in default may add one more limit.
MAX_LIMITS_OF_LAYERS = 16
MANY = "too-many"  # the kind of these refusals


@contextmanager
def keeping_few_layers(most_limits: Callable[[], Mapping[str, int]]) -> Iterator[None]:
    """Changes rules inside. Raises Conflict if the tenant then has too many layers or too many limits.

    `most_limits`: by layer, the largest number of limits of any rule. An excess from before may stay, because nodes of
    the previous release do not know the bounds. A block is never refused: in the layer default, where the built-in
    default decides anyway, rules without limits do not count.
    """
    before = most_limits()
    yield
    after = most_limits()
    if _layers(after) > max(MAX_LAYERS, _layers(before)):
        raise Conflict(f"a tenant has at most {MAX_LAYERS} layers: these would be {_layers(after)}", MANY)
    if sum(after.values()) > max(MAX_LIMITS_OF_LAYERS, sum(before.values())):
        named = ", ".join(f"{layer} {number}" for layer, number in sorted(after.items()))
        raise Conflict(
            f"the layers of a tenant have at most {MAX_LIMITS_OF_LAYERS} limits together: these would be"
            f" {sum(after.values())} (the most of any rule in each layer: {named})",
            MANY,
        )


def most_limits_of(rules: Iterable[Rule]) -> dict[str, int]:
    """Return, by layer, the largest number of limits of any of these rules."""
    most: dict[str, int] = {}
    for rule in rules:
        most[rule.layer] = max(most.get(rule.layer, 0), len(rule.limits))
    return most


def _layers(most_limits: Mapping[str, int]) -> int:
    return sum(1 for layer, number in most_limits.items() if number or layer != DEFAULT_LAYER)
