"""Shared by all tables: the engine, transactions, bulk statements, pages, notifications."""
