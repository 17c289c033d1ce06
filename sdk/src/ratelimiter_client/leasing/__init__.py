"""Checks decided in the process, by permits that the service granted ahead."""
