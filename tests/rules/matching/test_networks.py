"""Networks: which clients lie in one, which one decides, and which rules are looked at beside one."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from random import Random

import pytest
from sqlalchemy.orm import Session

from app.rules.matching import hidden_rules, networks
from app.rules.matching.networks import around, lies_in, network_of, problem_of
from app.rules.rule import Limit, Rule, default_rule
from app.rules.rule_book import RuleBook, Snapshot
from app.rules.sql.repository import RuleRepository
from tests.support.stored import changes, rule

Net = IPv4Network | IPv6Network


def numbered(rule_id: int, client_id: str, endpoint: str | None = None, **fields: object) -> Rule:
    return Rule(id=rule_id, client_id=client_id, endpoint=endpoint, limits=(Limit(5, 60),), **fields)  # type: ignore[arg-type]


def book(*rules: Rule) -> RuleBook:
    return RuleBook(Snapshot(1, b"", rules), default=default_rule(100, 60), algorithm="gcra")


PRECEDENCE = book(
    numbered(1, "*"),
    numbered(2, "ip:10.0.0.0/8"),
    numbered(3, "ip:10.0.0.0/8", "login"),
    numbered(4, "ip:10.1.0.0/16"),
    numbered(5, "ip:10.1.2.0/24", "export"),
    numbered(6, "ip:10.1.2.3"),
    numbered(7, "ip:10.1.2.*"),
    numbered(8, "ip:2001:db8::/32"),
    numbered(9, "ip:2001:db8:1:2::/64"),
    numbered(10, "ip:2001:db8:1:2:8000::/65"),
    numbered(11, "ip:0.0.0.0/0", "login", tenant_id=2),
    numbered(12, "ip:::/0", tenant_id=2),
    numbered(13, "ip:10.0.0.1/8"),  # stored before such spellings were refused
    numbered(14, "ip:192.*"),
)


@pytest.mark.parametrize(
    ("client_id", "limit_key", "expected"),
    [
        ("ip:10.9.9.9", "global", 2),
        ("ip:10.9.9.9", "login", 3),
        ("ip:10.1.9.9", "login", 4),  # the longer prefix first, then the endpoint
        ("ip:10.1.2.9", "export", 5),
        ("ip:10.1.2.9", "login", 4),  # it comes before the glob
        ("ip:10.1.2.3", "export", 6),  # exact text first
        ("ip:::ffff:10.9.9.9", "global", 2),
        ("ip:::FFFF:a09:909", "global", 2),
        ("ip:::ffff:10.9.0.0/112", "global", 2),
        ("ip:10.0.0.0/8", "global", 2),
        ("ip:10.9.0.0/16", "global", 2),
        ("ip:10.0.0.1/8", "global", 13),
        ("ip:10.0.0.0/7", "global", 1),  # too large to lie in it
        ("ip:11.0.0.0", "global", 1),
        ("ip:192.168.0.1", "global", 14),
        ("ip:2001:db8:ffff::/64", "global", 8),
        ("ip:2001:DB8:0:0::1", "global", 8),
        ("ip:2001:db8::1%eth0", "global", 8),
        ("ip:2001:db8::1%eth0/64", "global", 8),
        ("ip:2001:db8:1:2::/64", "global", 9),
        ("ip:2001:db8:1:2::1", "global", 9),
        ("ip:2001:db8:1:2:ffff::1", "global", 10),
        ("ip:2001:db9::1", "global", 1),
        *((text, "global", 1) for text in ("10.9.9.9", "IP:10.9.9.9", "ip: 10.9.9.9", "ip:010.9.9.9", "ip:10.9.9")),
        *((f"ip:10.9.9.9{rest}", "global", 1) for rest in ("/", "/33", "/+8", "/08", "/٣", "/8/8", ":80", "%eth0")),
        *((f"ip:{text}", "global", 1) for text in ("", "/", "[2001:db8::1]", "2001:db8::1/129", "2001:db8::é", "%")),
    ],
)
def test_the_longest_prefix_decides_between_exact_text_and_globs(client_id: str, limit_key: str, expected: int) -> None:
    assert PRECEDENCE.match(1, client_id, limit_key).id == expected
    candidates = [rule.id for rule, _ in PRECEDENCE.candidates(1, client_id) if rule.endpoint in (None, limit_key)]
    assert candidates[0] == expected


def test_as_many_networks_are_tried_as_there_are_lengths_of_prefix() -> None:
    nets = [numbered(number + 1, f"ip:10.{number}.0.0/16") for number in range(200)]
    assert book(*nets).max_pattern_trials(1) == 1
    assert (
        book(*nets, numbered(300, "ip:10.0.0.0/8"), numbered(301, "ip:::/0"), numbered(302, "a*")).max_pattern_trials(1)
        == 3
    )
    assert book(numbered(1, "ip:10.0.0.1")).max_pattern_trials(1) == 0


def test_a_network_is_of_one_family_and_of_one_tenant() -> None:
    assert PRECEDENCE.match(2, "ip:10.1.2.3", "login").id == 11
    assert PRECEDENCE.match(2, "ip:10.1.2.3", "global").public_id == "default"
    assert PRECEDENCE.match(2, "ip:2001:db8::/64", "login").id == 12
    assert PRECEDENCE.match(2, "ip:::ffff:10.1.2.3", "global").public_id == "default"  # it is an address of IPv4


@pytest.mark.parametrize(
    ("client_id", "says"),
    [
        ("ip:10.0.0.1/8", "ip:10.0.0.0/8."),
        ("ip:2001:DB8::/32", "ip:2001:db8::/32."),
        ("ip:2001:db8:0::/32", "ip:2001:db8::/32."),
        ("ip:2001:db8::%eth0/32", "ip:2001:db8::/32."),
        ("ip:::ffff:10.0.0.0/104", "ip:10.0.0.0/8."),
        *((f"ip:{text}", "such as ip:10.0.0.0/8 or ip:2001:db8::/32.") for text in ("10.0.0.0/33", "::/129", "10/8")),
        *((f"ip:{text}", "such as ip:10.0.0.0/8 or ip:2001:db8::/32.") for text in ("10.0.0.0/255.0.0.0", "a/b", "/8")),
        *(
            (text, None)
            for text in ("ip:10.0.0.0/8", "ip:10.0.0.1/32", "ip:0.0.0.0/0", "ip:::/0", "ip:2001:db8::1/128")
        ),
        *((text, None) for text in ("ip:10.0.0.1", "ip:10.*/8", "ip:2001:db8:*::/64", "10.0.0.1/8", "a/b", "*", "ip:")),
    ],
)
def test_what_looks_like_a_network_is_one_in_its_only_spelling(client_id: str, says: str | None) -> None:
    told = problem_of(client_id)
    assert (told is None) if says is None else (told is not None and told.endswith(says)), told


def _network(random: Random) -> Net:
    """Of few beginnings, so that many lie in one another."""
    bits, top = random.choice([(32, 10 << 24), (128, 0x20010DB8 << 96)])
    number = top | random.choice([0, 1, 3]) << bits // 2 | random.getrandbits(3) << random.randrange(bits - 2)
    net: Net = ip_network((number, random.choice([random.randint(0, bits), bits // 4, bits // 2, bits])), strict=False)
    return net


def _spelled(net: Net, random: Random) -> str:
    """As a client, one way or another."""
    address = str(net.network_address)
    if isinstance(net, IPv6Network):
        address = random.choice([address, address.upper(), net.network_address.exploded, f"{address}%1"])
    elif net.prefixlen == 32:
        address = random.choice([address, f"::ffff:{address}"])
        return f"ip:{address}"
    return f"ip:{address}" if net.prefixlen == net.max_prefixlen else f"ip:{address}/{net.prefixlen}"


def test_networks_match_as_the_library_of_python_says() -> None:
    random = Random(17)
    for _ in range(12):
        nets = sorted({_network(random) for _ in range(30)}, key=str)
        subject = book(*(numbered(place, f"ip:{net}") for place, net in enumerate(nets, 1)))
        for client in [*nets, *(_network(random) for _ in range(30))]:
            holding = [net for net in nets if net.version == client.version and client.subnet_of(net)]  # type: ignore[arg-type]
            expected = [nets.index(net) + 1 for net in sorted(holding, key=lambda net: -net.prefixlen)]
            spelled = _spelled(client, random)
            assert [each.rule.id for each in subject.candidates(1, spelled)] == [*expected, 0], (spelled, nets)
            assert subject.match(1, spelled, "x").id == [*expected, 0][0]
            assert set(around(spelled)) & {f"ip:{net}" for net in nets} == {f"ip:{net}" for net in holding}
    assert network_of("ip:10.0.0.0/8") == lies_in("ip:10.255.255.255/8")


def test_a_book_takes_over_networks_and_forgets_them() -> None:
    shared = (numbered(1, "ip:10.0.0.0/8"), numbered(2, "ip:10.*"))
    first = book(*shared)
    second = RuleBook(
        Snapshot(2, b"", (*shared, numbered(3, "ip:10.1.0.0/16"))),
        default=default_rule(100, 60),
        algorithm="gcra",
        previous=first,
    )
    third = RuleBook(Snapshot(3, b"", (shared[1],)), default=default_rule(100, 60), algorithm="gcra", previous=second)
    assert [each.match(1, "ip:10.1.1.1", "x").id for each in (first, second, third)] == [1, 3, 2]


def test_a_book_reads_each_network_once_and_those_of_the_book_before_never(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are: to read one takes up to 10 us."""
    read = list[str]()
    reading = networks._network_of.__wrapped__
    monkeypatch.setattr(networks, "_network_of", lambda client_id: read.append(client_id) or reading(client_id))
    many = [numbered(place + 1, f"ip:10.{place >> 8}.{place & 255}.0/24") for place in range(600)]
    misspelt = numbered(1000, "ip:10.0.0.1/8")
    previous = None
    for rules, new in (
        ([*many, misspelt], len(many) + 1),
        ([*many, misspelt, numbered(1001, "ann")], 0),
        ([*many, misspelt, numbered(1002, "ip:10.0.0.0/8")], 2),  # of misspelt ones nothing is kept
    ):
        read.clear()
        snapshot = Snapshot(1, b"", tuple(rules))
        previous = RuleBook(snapshot, default=default_rule(100, 60), algorithm="gcra", previous=previous)
        assert len(read) == new
        assert previous.match(1, "ip:10.0.0.1/8", "x").id == 1000
        assert previous.match(1, "ip:10.1.2.3", "x").id == 256 + 2 + 1


STORED = (
    ("*", "login"),
    ("ip:10.0.0.0/8", "login"),
    ("ip:10.1.0.0/16", None),
    ("ip:10.1.2.0/25", "login"),
    ("ip:10.1.2.3", None),
    ("ip:10.1.2.3/32", "login"),
    ("ip:10.*", "login"),
    ("ip:10.1.*", None),
    ("ip:1*", "login"),
    ("*.3", "login"),
    ("ip:172.16.0.0/12", None),
    ("ip:172.*", "login"),
    ("ip:172.99.*", "login"),
    ("ip:2001:db8::/32", None),
    ("ip:2001:db8:1:2::/64", "login"),
    ("ip:2001:db8:1:2::7", None),
    ("ip:2001:db8:*", "login"),
    ("ip:2001:0:0:1::/64", None),
    ("ip:2001::1:*", "login"),
    ("ip:::/0", "login"),
    ("ip:0.0.0.0/0", None),
    ("user/7", None),
)


def test_a_change_looks_at_all_rules_that_it_has_to_do_with(session: Session) -> None:
    """Of those that SQL finds beside a rule the same is told as of all."""
    sent = [rule(client_id, endpoint=endpoint, tenant_id=2) for client_id, endpoint in STORED]
    blocked = ("ip:10.128.0.0/9", "ip:10.200.*", "ip:2001:db8:2::/48")
    sent += [rule(client_id, action="block", tenant_id=2) for client_id in blocked]
    stored = changes(session, 2).merge(sent).created
    told = 0
    for each in stored:
        beside = RuleRepository(session).beside(each)
        found = hidden_rules.warnings([each], [other for other in stored if other in beside])
        assert found == hidden_rules.warnings([each], [other for other in stored if other is not each]), each.client_id
        told += len(found)
    assert told > len(stored)


def test_only_what_can_decide_for_a_client_is_read_for_it(session: Session) -> None:
    """As the command `explain` does."""
    clients = ("ip:10.0.0.0/8", "ip:10.0.0.0/9", "ip:10.128.0.0/9", "ip:10.1.2.3", "ip:11.0.0.0/8", "ip:1*", "else")
    changes(session, 1).merge([rule(client_id) for client_id in clients])
    found = RuleRepository(session).of_client(1, "ip:10.1.2.3")
    assert [each.client_id for each in found] == ["ip:10.0.0.0/8", "ip:10.0.0.0/9", "ip:10.1.2.3", "ip:1*"]
