"""Gates from the settings of a framework."""

from __future__ import annotations

from inspect import signature
from typing import Any, Mapping

from ratelimiter_client.client import RateLimiter
from ratelimiter_client.web.gate import Gate

CLIENT_OPTIONS = tuple(name for name in signature(RateLimiter).parameters)
GATE_OPTIONS = tuple(name for name in signature(Gate).parameters)


def configured(options: Mapping[str, Any], others: tuple[str, ...] = ()) -> Gate:
    """A gate from settings with the names of the arguments of Gate and RateLimiter. Names in `others` are allowed and
    not read.

    Raises TypeError or ValueError for wrong ones, and where there is neither a client nor a url.
    """
    known = {*CLIENT_OPTIONS, *GATE_OPTIONS, *others}
    for name in options.keys() - known:
        raise TypeError(f"{name!r} is no setting, allowed are {', '.join(sorted(known))}")
    client = options.get("client")
    if client is None and not options.get("url"):
        if options.get("enabled", True):
            raise ValueError('there is no url: set RATELIMITER_URL (of Django: "URL" in RATELIMITER)')
    elif client is None:
        client = RateLimiter(**{name: options[name] for name in CLIENT_OPTIONS if name in options})
    return Gate(**{**{name: options[name] for name in GATE_OPTIONS if name in options}, "client": client})
