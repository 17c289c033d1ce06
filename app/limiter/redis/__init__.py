"""Redis and Valkey: connections, topologies, scripts. The only package that imports `redis`."""
