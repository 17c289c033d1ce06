"""The WSGI application of `gunicorn wsgi:app` and `flask --app wsgi …`."""

import gc
import os
import sys

# A command: only gunicorn needs metrics, and it has imported prometheus_client by now.
if "prometheus_client" not in sys.modules:
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)

from app import cli, create_app

if cli.flask_wants_command():
    gc.disable()  # until the command is imported: those objects stay
    app = cli.app_of_commands()
else:
    from app.environment import SettingsError

    try:
        app = create_app()
    except SettingsError as error:
        sys.exit(str(error))
