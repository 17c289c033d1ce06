"""Values: Rule (whom to limit) and Limit (how much). Independent of database, Redis and HTTP.

Structs instead of dataclasses: after a change of all rules a worker makes ten thousand, each in a tenth of the time.
`gc=False` because none can be part of a cycle.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

ALGORITHMS = ("token_bucket", "fixed_window", "sliding_window", "sliding_window_counter", "gcra")
BUCKET_ALGORITHMS = ("token_bucket", "gcra")  # the algorithms with a burst
ACTIONS = ("limit", "allow", "block")
FAIL_MODES = ("open", "closed", "local")

MAX_NAME = 64  # characters in names of tenants, keys and templates
MAX_AMOUNT = 1_000_000_000  # of rate, burst and cost
MAX_WINDOW_SECONDS = 31_536_000
# rate x window in microseconds stays below 2^53, up to which a Lua number holds every integer.
MAX_RATE_TIMES_WINDOW = 9_000_000_000
MAX_LOGGED_RATE = 100_000  # sliding_window keeps an entry per check: up to 3.4 MB at this rate
MAX_LIMITS = 8
MAX_GROUPS = 8  # of one check

DEFAULT_TENANT, DEFAULT_TENANT_ID = "default", 1
DEFAULT_RULE_ID = 0  # the built-in default has no row; callers see "default"
DEFAULT_LAYER = "default"
LAYER = "[a-z0-9_-]{1,32}"  # all of a layer's name, as PostgreSQL and Python read it
# Kinds of rules, by the release that first decides by them. A rule with higher `needs` is hidden from this release.
PLAIN, LAYERED = 0, 1
UNDERSTOOD = LAYERED


# A rule's layer, client, group, endpoint and shadow.
Identity = tuple[str, str, str | None, str | None, bool]


class Limit(Struct, frozen=True, gc=False):
    """`rate` units per `window` seconds. `counter` numbers this limit's state within its rule, never reused."""

    rate: int
    window: int
    algorithm: str | None = None  # None: the ALGORITHM setting
    burst: int | None = None  # None: rate
    counter: int = 1

    @property
    def window_us(self) -> int:
        return self.window * 1_000_000

    @property
    def capacity(self) -> int:
        """The most that can be admitted at once."""
        return self.burst if self.burst is not None and self.algorithm in BUCKET_ALGORITHMS else self.rate

    def resolved(self, default_algorithm: str) -> Limit:
        """Return the limit with its algorithm set. A rate too high for an exact log uses the sliding window counter."""
        if self.algorithm is not None:
            return self
        if default_algorithm == "sliding_window" and self.rate > MAX_LOGGED_RATE:
            default_algorithm = "sliding_window_counter"
        return replace(self, algorithm=default_algorithm)


class Rule(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Limits for a client or a group (exact or glob) on one endpoint (None: any); all of them apply at once.

    `shared`: all clients of a client rule share one counter, and those of one group value. Otherwise each has its own.
    """

    id: int
    client_id: str = ""  # "" in a rule for a group
    limits: tuple[Limit, ...]
    tenant_id: int = DEFAULT_TENANT_ID
    endpoint: str | None = None
    action: str = "limit"
    fail_mode: str | None = None  # None: the FAIL_MODE setting
    shadow: bool = False
    enabled: bool = True
    description: str = ""
    version: int = 1
    created_at: datetime | None = None
    updated_at: datetime | None = None
    group: str | None = None
    layer: str = DEFAULT_LAYER  # every layer decides by one rule
    shared: bool = False

    @property
    def pattern(self) -> str:
        """The client or the group that the rule is for."""
        return self.client_id if self.group is None else self.group

    @property
    def identity(self) -> Identity:
        """Unique within a tenant."""
        return self.layer, self.client_id, self.group, self.endpoint, self.shadow

    @property
    def counted_by(self) -> tuple[bool, bool]:
        """How clients map to counters. A rule that changes it starts new counters."""
        return self.shared, self.group is None

    @property
    def needs(self) -> int:
        """The kind of the rule: what a release must understand to decide by it."""
        plain = self.group is None and self.layer == DEFAULT_LAYER and not self.shared
        return PLAIN if plain else LAYERED

    @property
    def public_id(self) -> str | int:
        return "default" if self.id == DEFAULT_RULE_ID else self.id


def default_rule(rate: int, window: int) -> Rule:
    """Return the rule that decides if no stored rule matches.

    A changed window starts a new counter, as for stored rules.
    """
    return Rule(id=DEFAULT_RULE_ID, client_id="*", limits=(Limit(rate, window, counter=window),))
