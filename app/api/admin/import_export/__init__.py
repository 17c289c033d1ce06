"""All rules of a tenant as a file, JSON or YAML."""
