"""`/v1/admin`: rules, tenants, keys, counters, for operators."""
