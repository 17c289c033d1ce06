"""`flask explain`: the rules that decide for a client, the reasons, and what is left; the winners come first."""

from __future__ import annotations

from collections.abc import Sequence

import click

from app.api.admin.counter_json import candidate_answer, reading_answer
from app.api.admin.counter_schemas import QuestionSchema
from app.cli.command import as_json, command, of_tenant, tenant_named
from app.cli.output import many, print_json, shown_owner
from app.cli.resources.context import session, store
from app.cli.rules.client_rules import book_of_client
from app.cli.rules.table import shown_limits
from app.limiter.counters import Counters, Reading, limits_of
from app.rules.matching.explanation import Candidate, explain
from app.rules.matching.layered_rules import Deciding
from app.rules.rule import DEFAULT_LAYER, DEFAULT_RULE_ID, Rule
from app.rules.sql.repository import RuleRepository


@command("explain")
@click.argument("client_id")
@click.argument("limit_key", default="global")
@click.option("--group", "groups", multiple=True, help="A group of the client; repeatable, the first precedes.")
@click.option("--all", "everything", is_flag=True, help="Also the rules that are not for this key, and those disabled.")
@of_tenant
@as_json
def explain_check(
    client_id: str, limit_key: str, groups: tuple[str, ...], everything: bool, tenant: str, as_json: bool
) -> None:
    """Show the rules that decide a check of this client and key, why, and what is left. Charges nothing."""
    question = QuestionSchema().load({"client_id": client_id, "limit_key": limit_key, "groups": list(groups)})
    tenant_id = tenant_named(tenant).id
    book = book_of_client(tenant_id, client_id)
    disabled = RuleRepository(session()).rules(tenant_id, enabled=False) if everything else []
    found = explain(book, tenant_id, **question, disabled=disabled)
    winners = sorted((candidate for candidate in found if candidate.wins), key=lambda winner: winner.rule.shadow)
    counters = Counters(store(), book, tenant_id)
    met = counters.met_by(client_id, [Deciding(each.rule, each.group) for each in winners])
    readings = counters.read(limits_of(met))
    others = [each for each in found if not each.wins and (everything or _concerns(each, limit_key))]
    if as_json:
        print_json([_document(each, readings) for each in (*winners, *others)])
        return
    enforced = [winner for winner in winners if not winner.rule.shadow]
    for winner in winners:
        _print_winner(winner, readings)
    if len(enforced) > 1:
        click.echo(f"All {len(enforced)} must admit, each for its layer.")
    for other in others:
        click.echo(f"not {_named(other.rule)}: {other.why}")
    of_other_keys = [each for each in found if each.rule.endpoint not in (None, limit_key)]
    for winner in enforced:
        _print_hidden(winner.rule, of_other_keys)
    others_too = [each for each in found if each not in (*winners, *others) and each.rule.id != DEFAULT_RULE_ID]
    if others_too:
        click.echo(f"({many(len(others_too), 'rule')} of other keys: --all)")


def _concerns(candidate: Candidate, limit_key: str) -> bool:
    """Whether the rule could decide this check instead. The default rule is left out: it yields to all others."""
    return candidate.rule.endpoint in (None, limit_key) and candidate.rule.id != DEFAULT_RULE_ID


def _print_winner(winner: Candidate, readings: Sequence[Reading]) -> None:
    rule = winner.rule
    what = {"allow": "allows everything", "block": "blocks everything"}.get(rule.action, shown_limits(rule))
    click.echo(f"{_named(rule)} {'would decide' if rule.shadow else 'decides'}: {what}")
    click.echo(f"    because {winner.why}")
    for reading in readings:
        if reading.rule.id == rule.id:
            limit = reading.limit
            click.echo(
                f"    {limit.rate}/{limit.window}s {limit.algorithm}: {reading.remaining} of {limit.capacity} left"
            )


def _print_hidden(winner: Rule, of_other_keys: Sequence[Candidate]) -> None:
    """Print the rules of other keys that the winner also overrides."""
    hidden = [each.rule for each in of_other_keys if each.hidden_by is not None and each.hidden_by.id == winner.id]
    for rule in hidden:
        click.echo(f"it also decides for {rule.endpoint}, instead of {_named(rule)}")


def _named(rule: Rule) -> str:
    whom = shown_owner(rule.client_id, rule.group)
    where = ("" if rule.layer == DEFAULT_LAYER else f"layer {rule.layer}, ") + (rule.endpoint or "any endpoint")
    shared = f", one counter for {'all' if rule.group is None else 'each group'}" if rule.shared else ""
    return f"{'shadow ' * rule.shadow}rule {rule.public_id} ({whom}, {where}{shared})"


def _document(candidate: Candidate, readings: Sequence[Reading]) -> dict[str, object]:
    counters = [reading_answer(reading) for reading in readings if reading.rule.id == candidate.rule.id]
    return candidate_answer(candidate) | {"counters": counters}
