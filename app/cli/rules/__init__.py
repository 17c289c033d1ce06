"""`flask rules`, `flask templates` and `flask explain`."""
