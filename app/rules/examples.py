"""The example rules of a new database, from the table of the system that this project grew from."""

from app.rules.rule import Limit, Rule


def _example(client_id: str, endpoint: str | None, rate: int) -> Rule:
    limits = (Limit(rate=rate, window=60),)
    return Rule(id=-1, client_id=client_id, endpoint=endpoint, limits=limits, description="example")


EXAMPLES = (
    _example("client_a", None, 100),
    _example("client_a", "login", 20),
    _example("client_a", "register", 10),
    _example("client_b", None, 50),
)
