"""The release number, stated only here. CHANGELOG.md lists the changes."""

__version__ = "0.2.0"
