"""The nodes of a deployment: which run, and whether their settings and clocks agree."""
