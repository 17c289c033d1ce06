"""Random histories: Lua equals Python to the microsecond, and both do what the exact model says."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from app.limiter.redis.store import RedisStore
from app.rules.rule import MAX_RATE_TIMES_WINDOW, Limit
from tests.support.deciders import SECOND, START, LuaDecider, PythonDecider
from tests.support.examples import examples
from tests.support.models import MODELS, Model

EXAMPLES = settings(
    max_examples=examples(150),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    print_blob=True,
)


@dataclass(frozen=True)
class Event:
    """A check of `cost` after `after_us` (negative: the clock steps back), perhaps with an edited rate and burst."""

    after_us: int
    cost: int
    rate: int | None
    burst: int | None


RATES = st.one_of(st.integers(1, 20), st.integers(1, 10**9))
WINDOWS = st.one_of(st.integers(1, 60), st.integers(1, 31_536_000))
TIMES = st.one_of(
    st.integers(0, 3),
    st.integers(0, 90 * SECOND),
    st.integers(-2 * SECOND, 0),
    st.integers(-(10**14), 10**14),
)
EVENTS = st.lists(
    st.builds(
        Event,
        after_us=TIMES,
        cost=st.one_of(st.integers(0, 5), st.integers(0, 10**9)),
        rate=st.none() | RATES,
        burst=st.none() | RATES,
    ),
    min_size=1,
    max_size=25,
)


def bounded(limit: Limit) -> Limit:
    """The limit with rate and burst cut down to what the contract accepts for its window."""
    most = MAX_RATE_TIMES_WINDOW // limit.window
    if limit.algorithm == "sliding_window":
        most = min(most, 100_000)
    burst = None if limit.burst is None else min(limit.burst, most)
    return replace(limit, rate=min(limit.rate, most), burst=burst)


@EXAMPLES
@given(rate=RATES, window=WINDOWS, events=EVENTS)
def test_lua_python_and_the_model_agree(
    store: RedisStore, algorithm: str, rate: int, window: int, events: list[Event]
) -> None:
    lua, python, model = LuaDecider(store), PythonDecider(), MODELS[algorithm]()
    limit = bounded(Limit(rate, window, algorithm))
    now = START
    for event in events:
        now = max(1, now + event.after_us)
        if event.rate is not None:
            limit = bounded(replace(limit, rate=event.rate, burst=event.burst))
        outcome = lua.check([limit], event.cost, now)
        assert outcome == python.check([limit], event.cost, now)
        follow(model, limit, event.cost, now, outcome.allowed, outcome.retry_after_us)
        assert outcome.remaining == model.remaining(limit, now)
        if outcome.remaining < limit.capacity:
            looked_at = copy.deepcopy(model)
            looked_at.restamp(limit, now)  # a peek answers as if it had taken notice of a stepped clock
            assert looked_at.remaining(limit, now + outcome.reset_after_us) == limit.capacity
            assert looked_at.remaining(limit, now + outcome.reset_after_us - 1) < limit.capacity


def follow(model: Model, limit: Limit, cost: int, now: int, allowed: bool, retry_after_us: int | None) -> None:
    """Let the model decide too, and judge the waiting time by it."""
    if cost == 0:
        assert allowed
        return
    model.restamp(limit, now)
    assert allowed == model.fits(limit, cost, now)
    if allowed:
        assert retry_after_us == 0
        model.charge(limit, cost, now)
    elif cost > limit.capacity:
        assert retry_after_us is None
    else:
        assert retry_after_us is not None
        assert model.fits(limit, cost, now + retry_after_us)
        assert not model.fits(limit, cost, now + retry_after_us - 1)


@EXAMPLES
@given(
    limits=st.lists(
        st.builds(Limit, st.integers(1, 30), st.integers(1, 60), st.sampled_from(sorted(MODELS))),
        min_size=1,
        max_size=8,
    ),
    checks=st.lists(st.tuples(st.integers(0, 20 * SECOND), st.integers(0, 12)), min_size=1, max_size=25),
)
def test_several_limits_agree_and_are_charged_together(
    store: RedisStore, limits: list[Limit], checks: list[tuple[int, int]]
) -> None:
    limits = [replace(limit, counter=number) for number, limit in enumerate(limits)]
    lua, python = LuaDecider(store), PythonDecider()
    models = [MODELS[str(limit.algorithm)]() for limit in limits]
    now = START
    for after_us, cost in checks:
        now += after_us
        outcome = lua.check(limits, cost, now)
        assert outcome == python.check(limits, cost, now)
        assert outcome.allowed == (cost == 0 or all(m.fits(x, cost, now) for m, x in zip(models, limits, strict=True)))
        if outcome.allowed and cost:
            for model, limit in zip(models, limits, strict=True):
                model.charge(limit, cost, now)
        left = [model.remaining(limit, now) for model, limit in zip(models, limits, strict=True)]
        assert (outcome.remaining, left[outcome.binding]) == (min(left), min(left))


@EXAMPLES
@given(rate=RATES, window=WINDOWS, events=EVENTS)
def test_gcra_decides_as_the_token_bucket_does(store: RedisStore, rate: int, window: int, events: list[Event]) -> None:
    bucket, gcra = LuaDecider(store), LuaDecider(store)
    now = START
    for event in events:
        now = max(1, now + event.after_us)
        limit = bounded(Limit(rate, window, "token_bucket", event.burst))
        twin = replace(limit, algorithm="gcra")
        assert bucket.check([limit], event.cost, now) == gcra.check([twin], event.cost, now)
