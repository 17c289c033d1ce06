"""Valkey and PostgreSQL as they come in wheels: made, started, and started again when they end."""
