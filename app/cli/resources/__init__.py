"""What commands work with: settings, a database session, Redis."""
