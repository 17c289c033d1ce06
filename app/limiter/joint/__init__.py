"""Decisions that charge several rules together."""
