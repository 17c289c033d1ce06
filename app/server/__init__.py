"""Code that runs inside gunicorn: its workers, the fast lane for canonical checks, and the stop of a node."""
