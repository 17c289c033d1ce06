"""The database of the rules' tests, for the registry of nodes."""

from tests.rules.conftest import engine

__all__ = ["engine"]
