"""How the service is asked: one connection at a time, one deadline, one breaker."""
