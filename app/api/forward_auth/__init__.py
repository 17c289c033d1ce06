"""`/v1/authorize`: decisions for proxies that ask before they pass a request on."""
