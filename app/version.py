"""Which release this is: the one place that says it. CHANGELOG.md says what changed."""

__version__ = "0.2.0"
