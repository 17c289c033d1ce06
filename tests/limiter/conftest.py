"""Every test that takes `decider` runs on every implementation; every test that takes `algorithm`, on each of them."""

from __future__ import annotations

import pytest

from app.limiter.redis.store import RedisStore
from app.rules.rule import ALGORITHMS
from tests.support.deciders import Decider, LuaDecider, PythonDecider


@pytest.fixture(params=["lua", "python"])
def decider(request: pytest.FixtureRequest) -> Decider:
    if request.param == "python":
        return PythonDecider()
    store: RedisStore = request.getfixturevalue("store")
    return LuaDecider(store)


@pytest.fixture(params=ALGORITHMS)
def algorithm(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name
