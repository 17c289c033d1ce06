"""Selects the rule that decides for a client: exact ids, networks, patterns, and their precedence."""
