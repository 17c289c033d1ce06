"""What an answer is in bytes: the same fresh, repeated and by its members."""

from __future__ import annotations

import json

import pytest

from app.api.check import encoding
from app.api.check.encoding import Encoder
from app.limiter.compiled_rule import CompiledRule
from app.limiter.decision import Decision, Outcome, decided, degraded, outright
from app.rules.rule import DEFAULT_RULE_ID, Limit, Rule

NOW_US = 1_795_000_000_500_000
LIMITS = (Limit(5, 60, "gcra"), Limit(100, 3600, "fixed_window"))
COMPILED = CompiledRule(Rule(id=7, client_id="*", limits=LIMITS))
DENIED = Outcome(False, 1, 0, 1_234_567, 2_000_001, NOW_US)
DECISIONS = {
    "admitted": decided(COMPILED, Outcome(True, 0, 4, 0, 12_000_000, NOW_US)),
    "denied": decided(COMPILED, DENIED),
    "never": decided(COMPILED, Outcome(False, 0, 3, None, 1, NOW_US)),
    "degraded": degraded(COMPILED, Outcome(True, 1, 100, 0, 0, NOW_US)),
    "by default": decided(CompiledRule(Rule(id=DEFAULT_RULE_ID, client_id="*", limits=LIMITS)), DENIED),
    "blocked": outright(CompiledRule(Rule(id=8, client_id="*", limits=(), action="block")), NOW_US),
    "repeated": Decision(COMPILED, DENIED, "over_limit", age_us=234_567, repeats=1),
}


@pytest.fixture
def encoder() -> Encoder:
    return Encoder("draft-10", 60)


@pytest.mark.parametrize("decision", DECISIONS.values(), ids=DECISIONS)
def test_the_members_are_those_of_the_body(encoder: Encoder, decision: Decision) -> None:
    assert list(json.loads(encoder.body(decision)).items()) == list(encoder.members(decision).items())


@pytest.mark.parametrize("dialect", ["draft-10", "legacy", "off"])
def test_a_repeated_denial_says_what_a_fresh_one_would_with_less_time_to_wait(dialect: str) -> None:
    encoder = Encoder(dialect, 60)
    for age_us in (1, 234_567, 1_234_566, 234_567):
        wait_us = 1_234_567 - age_us
        fresh = decided(COMPILED, Outcome(False, 1, 0, wait_us, 2_000_001 - age_us, NOW_US + age_us))
        repeated = Decision(COMPILED, DENIED, "over_limit", age_us=age_us, repeats=1)
        assert encoder.body(repeated) == encoder.body(fresh)
        assert encoder.head(repeated).startswith(b"Content-Type: application/json\r\n")
        assert encoder.head(repeated).endswith(b"Retry-After: %d\r\n" % -(-wait_us // 1_000_000))


def test_each_compiled_rule_speaks_for_itself_and_their_number_is_bounded(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "MAX_CACHED_RULES", 50)
    for number in range(1, 200):
        compiled = CompiledRule(Rule(id=number, client_id="*", limits=(Limit(number, 60, "gcra"),)))
        said = json.loads(encoder.body(decided(compiled, Outcome(True, 0, 1, 0, 0, NOW_US))))
        assert (said["rule_id"], said["limit"]) == (number, number)
        assert len(encoder._templates) <= 50
