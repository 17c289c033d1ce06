"""Keeps each worker's rule book current, and the last good one on disk."""
