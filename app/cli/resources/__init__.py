"""The resources of commands: settings, a database session, Redis."""
