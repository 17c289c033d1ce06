"""The circuit breaker of a node: one for each primary, shared by its workers."""
