"""Which rule decides for a client: exact ids, networks, patterns, and the order among them."""
