"""What runs inside gunicorn: its workers, the fast lane for plain checks, and how a node stops."""
