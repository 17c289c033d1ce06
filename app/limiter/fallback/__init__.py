"""Decisions while Redis cannot decide: `fail_mode`."""
