"""`gunicorn wsgi:app`, `flask --app wsgi …`."""

import sys

from app import create_app
from app.environment import SettingsError

try:
    app = create_app()
except SettingsError as error:
    sys.exit(str(error))
