"""What a check of a tenant with layers is charged to, and that other tenants notice nothing."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from app.limiter.compiled_rule import Charge, CompiledRule
from app.limiter.compiled_rules import CompiledRules
from app.limiter.decision import Check, Outcome, decided
from app.limiter.joint import matches as matches_module
from app.limiter.joint.joint_rule import JointRule, as_of, joined, of_part
from app.limiter.joint.matches import MATCHES_BYTES, Matches
from app.limiter.keys import NEW_CLIENTS, Keyspace
from app.limiter.redis.packing import limits_in
from app.limiter.redis.script_calls import packed_call
from app.limiter.redis.scripts import check_joint_script, check_script
from app.rules.rule import Limit, Rule
from tests.support.layered import LIMITS, book, rule

SECRET = b"secret"
KEYSPACE = Keyspace(SECRET)
MINE, NEW = KEYSPACE.client(1, "a"), KEYSPACE.client(1, NEW_CLIENTS)
ORG = rule(20, group="org:*", layer="org", shared=True)
ORG_7 = KEYSPACE.shared(1, ORG, "org:7")
# What the release before sent for one check of one limit.
PLAIN_CALL = (
    b"*6\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n$1\r\n1\r\n$32\r\nrl:{0NoCRHIHzTuRpWCAuHfBZv}:7:1G\r\n$0\r\n\r\n$48\r\n"
    b"\0\0\0\0\0\0\xf0?\0\0\0\0\0\0\xf0?\0\0\0\0\0\0\x14@\0\0\0\0\x38\x9c\x8cA\0\0\0\0\0\0\x14@\0\0\0\0\0\0\x14@\r\n"
)


def charged(check: Check, *rules: Rule) -> Charge:
    return CompiledRules(book(*rules, secret=SECRET)).charge(1, check)


def keys(charge: Charge) -> list[bytes]:
    """The counters of the charge."""
    return charge.compiled.keys_of(charge.owners or (charge.client,)).split(b"\r\n")[1::2]


def in_org(client_id: str = "a", **fields: object) -> Check:
    return Check(client_id, groups=("org:7",), **fields)  # type: ignore[arg-type]


def test_a_plain_tenant_beside_a_layered_one_asks_what_it_has_asked_before() -> None:
    layered = rule(1, group="org:*", tenant_id=2, shared=True)
    compiled_rules = CompiledRules(book(rule(7, "a", limits=(Limit(5, 60, "gcra"),)), layered, secret=SECRET))
    charge = compiled_rules.charge(1, in_org())
    assert charge == Charge(compiled_rules.compiled(charge.compiled.rule), MINE, 1)
    assert type(charge.compiled) is CompiledRule
    assert packed_call([charge]) == PLAIN_CALL % check_script("gcra").sha


def test_one_rule_that_counts_for_the_client_stays_a_plain_rule() -> None:
    for rules in ([rule(7, "a")], [rule(7, "a", action="allow"), rule(8, "*", layer="b")], [rule(7, group="org:*")]):
        charge = charged(in_org(), *rules, rule(9, "z", layer="org"))
        assert type(charge.compiled) is CompiledRule
        assert (charge.client, charge.owners) == (MINE, ())


def test_a_joint_rule_charges_each_counter_of_its_owner() -> None:
    limits = (Limit(5, 60, "gcra", counter=1), Limit(9, 60, "fixed_window", counter=2))
    charge = charged(in_org(), rule(7, "a"), ORG, rule(30, "*", layer="protection", limits=limits))
    joint = charge.compiled
    assert isinstance(joint, JointRule)
    assert (charge.client, charge.owners) == (MINE, (MINE, ORG_7))
    assert keys(charge) == [MINE + b":7:1G", ORG_7 + b":20:1G", MINE + b":30:1G", MINE + b":30:2F"]
    assert [(joint.place(at)[0].rule.id, joint.place(at)[1]) for at in range(4)] == [(7, 0), (20, 0), (30, 0), (30, 1)]
    assert [joint.owner_of(at, charge.owners) for at in range(4)] == [MINE, ORG_7, MINE, MINE]
    assert joint.work_us == sum(part.work_us for part in joint.parts) - 2 * 3  # one check
    assert joint.script == check_joint_script()


@pytest.mark.parametrize(
    ("shared", "owner"),
    [
        (rule(7, "*", shared=True), KEYSPACE.shared(1, rule(7, "*"), None)),
        (rule(7, group="org:*", shared=True), ORG_7),
        (rule(7, group="org:7", shared=True), ORG_7),
    ],
)
def test_one_shared_rule_is_charged_alone_for_whoever_asks(shared: Rule, owner: bytes) -> None:
    charge = charged(in_org(), shared)
    assert (charge.client, charge.owners, keys(charge)) == (MINE, (MINE, owner), [owner + b":7:1G"])
    assert charge.compiled.script == check_script("gcra")


def test_counters_of_one_group_value_have_one_owner() -> None:
    charge = charged(in_org(), rule(7, group="org:7", shared=True), ORG)
    assert charge.owners == (MINE, ORG_7)
    assert keys(charge) == [ORG_7 + b":7:1G", ORG_7 + b":20:1G"]


def test_block_in_any_layer_denies_and_allow_exempts_from_its_own() -> None:
    block, allow = rule(30, "*", layer="b", action="block"), rule(31, "*", layer="c", action="allow", limits=())
    assert charged(in_org(), rule(7, "a"), block, ORG).compiled.rule.id == 30
    assert charged(in_org(), rule(7, "a", action="block"), block, ORG).compiled.rule.id == 7
    assert keys(charged(in_org(), rule(7, "a"), allow, ORG)) == [MINE + b":7:1G", ORG_7 + b":20:1G"]
    assert charged(in_org(), rule(7, "a", action="allow"), allow).compiled.rule.id == 7


def test_new_clients_share_their_own_counters_and_keep_the_shared_ones() -> None:
    rules = rule(7, "*"), ORG
    charge = charged(in_org(new_client=True, request_id="r"), *rules)
    assert (charge.client, charge.owners) == (NEW, (NEW, ORG_7))
    assert charge.record is not None
    assert charge.record.name == b":Q:r" + MINE[4:-1]
    named = charged(in_org(new_client=True), *rules, rule(8, "a", layer="named"))
    assert (named.client, named.owners) == (MINE, (MINE, ORG_7))


def test_each_layer_has_a_shadow_with_an_answer_of_its_own() -> None:
    shadows = rule(8, "a", shadow=True), rule(9, group="org:*", layer="org", shadow=True, shared=True)
    compiled_rules = CompiledRules(book(rule(7, "a"), *shadows, secret=SECRET))
    found = compiled_rules.shadow_charges(1, in_org(request_id="r"), MINE)
    assert [(keys(charge), charge.record and charge.record.name) for charge in found] == [
        ([MINE + b":8:1G"], b":S:r"),
        ([ORG_7 + b":9:1G"], b":S:r:org"),
    ]
    assert compiled_rules.charge(1, in_org()).compiled.rule.id == 7


def test_the_same_rules_are_joined_once_and_outlive_the_book() -> None:
    rules = rule(7, "*"), ORG
    first = book(*rules, secret=SECRET)
    compiled_rules = CompiledRules(first)
    one, other = (compiled_rules.charge(1, in_org(client_id)) for client_id in ("a", "b"))
    assert one.compiled is other.compiled
    assert one.owners[1:] == other.owners[1:] == (ORG_7,)
    second = book(*rules, rule(8, "elsewhere"), secret=SECRET, previous=first)
    compiled_rules = CompiledRules(second, compiled_rules)
    assert compiled_rules.charge(1, in_org()).compiled is one.compiled
    third = book(rule(7, "*", version=2), ORG, secret=SECRET, previous=second)
    assert CompiledRules(third, compiled_rules).charge(1, in_org()).compiled is not one.compiled


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matches_module, "MAX_JOINTS", 20)
    owns = [rule(number, f"c{number}") for number in range(1, 100)]
    compiled_rules = CompiledRules(book(*owns, rule(200, "*", layer="z"), secret=SECRET))
    for each in owns:
        assert keys(compiled_rules.charge(1, Check(each.client_id)))[0].endswith(b":%d:1G" % each.id)
        assert len(compiled_rules._joints._made) <= 20


@pytest.mark.parametrize(("character", "length"), [("x", 8), ("\U0001f600", 256)])
def test_remembered_matches_are_bounded_in_bytes(character: str, length: int) -> None:
    compiled_rules = CompiledRules(book(rule(7, "*"), ORG, secret=SECRET))
    joint, most = compiled_rules.charge(1, in_org()).compiled, 0
    matches = Matches()
    tracemalloc.start()
    try:
        for number in range(MATCHES_BYTES // 500):
            name = f"{number:08}" + character * (length - 8)
            match = matches_module.Match(joint, MINE, (MINE, bytes(name[:8], "ascii") * 4))
            matches.keep(1, Check(name, str(number), groups=(f"g{number}",)), match)
            most = max(most, len(matches._found))
        used = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most > 1000
    assert used < 1.5 * MATCHES_BYTES


def test_the_garbage_collector_has_no_joint_to_look_at() -> None:
    joint = charged(in_org(), rule(7, "a"), ORG).compiled
    gc.collect()
    parts = (joint, joint.counter_names, joint.parts, joint.owned, joint.starts) if isinstance(joint, JointRule) else ()
    assert parts
    assert [part for part in parts if gc.is_tracked(part)] == []


def test_earlier_terms_name_the_rule_of_each_limit() -> None:
    now = charged(in_org(), rule(7, "a", limits=(Limit(9, 60, "gcra", 12),)), ORG).compiled
    limits = Limit(4, 60, "gcra"), Limit(3, 7, "fixed_window")
    before = charged(in_org(), rule(6, "a", limits=limits), ORG).compiled
    assert limits_in(before.terms) == 3
    assert isinstance(now, JointRule)
    for binding, rule_id, limit in ((0, 6, limits[0]), (1, 6, limits[1]), (2, 20, LIMITS[0])):
        decision = of_part(decided(as_of(now, before.terms), Outcome(True, binding, 1, 0, 5, 10)))
        assert (decision.compiled.rule.id, decision.limit) == (rule_id, limit)
        assert decision.compiled.counts is now.parts[rule_id == 20].counts
    plain = CompiledRule(rule(5, "a"))
    assert as_of(now, plain.terms).rule.id == 5
    assert as_of(plain, plain.terms).rule.limits == LIMITS


def test_terms_of_many_rules_with_a_missing_one_are_nonsense() -> None:
    parts = [CompiledRule(rule(number, "a")) for number in (1, 2)]
    terms = joined(parts, (0, 0)).terms
    assert limits_in(terms) == 2
    assert limits_in(terms.replace(b"\x92\x01\x02", b"\x91\x01", 1)) == 0
