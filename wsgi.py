"""`gunicorn wsgi:app`, `flask --app wsgi …`."""

import gc
import os
import sys

if "prometheus_client" not in sys.modules:  # a command: metrics are for gunicorn, which has imported it by now
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)

from app import cli, create_app

if cli.is_asked():
    gc.disable()  # until the command is imported: all of that stays
    app = cli.app_of_commands()
else:
    from app.environment import SettingsError

    try:
        app = create_app()
    except SettingsError as error:
        sys.exit(str(error))
