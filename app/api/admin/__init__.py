"""`/v1/admin`: rules, tenants, keys and counters, for operators."""
