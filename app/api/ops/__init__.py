"""Health, readiness, metrics: for machines."""
