"""Rules over HTTP, one by one."""
