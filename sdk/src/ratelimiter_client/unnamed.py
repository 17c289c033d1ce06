"""Limit keys that no rule names: they share one counter with others, which is seldom intended."""

from __future__ import annotations

from ratelimiter_client.http.breaker import log

DEFAULT_KEY = "global"
BUILT_IN = "default"  # the rule that decides where no stored rule matches
MOST_RULES = 1_000


def tell_unnamed(seen: dict[int | str, str], rule_id: int | str, limit_key: str) -> None:
    """Warn once about a rule that decided for two keys, because it names neither. `seen`: rule id -> a key it decided.

    The built-in rule names no key, so one key other than the default is enough.
    """
    known = seen.get(rule_id)
    if known == limit_key or known == "":
        return
    if known is None and (rule_id != BUILT_IN or limit_key == DEFAULT_KEY):
        if len(seen) < MOST_RULES:
            seen[rule_id] = limit_key
        return
    seen[rule_id] = ""  # reported
    other = f"{limit_key!r} and {known!r}" if known else repr(limit_key)
    log.warning(
        "no rule names the limit key %s: rule %s decides, which counts a client once for all its keys (said once)",
        other,
        rule_id,
    )
