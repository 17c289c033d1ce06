"""Rules, keys and their history in PostgreSQL. The only package that writes SQL."""
