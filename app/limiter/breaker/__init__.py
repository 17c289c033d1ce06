"""The circuit breakers of a node, one for each primary, shared by the node's workers."""
