"""Redis and Valkey: connections, topologies, scripts. The only room that imports the `redis` package."""
