"""Rules, keys and their history in PostgreSQL. The only room that writes SQL."""
