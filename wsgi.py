"""`gunicorn wsgi:app`, `flask --app wsgi …`."""

import os
import sys

if "prometheus_client" not in sys.modules:  # a command: metrics are for gunicorn, which has imported it by now
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)

from app import create_app
from app.environment import SettingsError

try:
    app = create_app()
except SettingsError as error:
    sys.exit(str(error))
