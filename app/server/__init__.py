"""What runs inside gunicorn: how a node stops; later the worker class that answers plain checks without Flask."""
