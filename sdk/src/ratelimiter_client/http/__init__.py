"""HTTP calls of the service: one connection at a time, one deadline, one breaker."""
