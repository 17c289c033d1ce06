"""Limit keys that no rule names: they count together with others, which is seldom what was meant."""

from __future__ import annotations

from ratelimiter_client.http.breaker import log

DEFAULT_KEY = "global"
BUILT_IN = "default"  # the rule that decides where none is stored
MOST_RULES = 1_000


def tell_unnamed(seen: dict[int | str, str], rule_id: int | str, limit_key: str) -> None:
    """Log once, of a rule that decided for two keys: it names neither. `seen`: a key of each rule, kept by this.

    The built-in rule is one from the beginning, and names no key; the default key is of no interest.
    """
    known = seen.get(rule_id)
    if known == limit_key or known == "":
        return
    if known is None and (rule_id != BUILT_IN or limit_key == DEFAULT_KEY):
        if len(seen) < MOST_RULES:
            seen[rule_id] = limit_key
        return
    seen[rule_id] = ""  # said
    other = f"{limit_key!r} and {known!r}" if known else repr(limit_key)
    log.warning(
        "no rule names the limit key %s: rule %s decides, which counts a client once for all its keys (said once)",
        other,
        rule_id,
    )
