"""Unbound Flask extensions; create_app binds them."""

from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

from app.api.problems import ProblemApi
from app.rules.sql.models import Base

db = SQLAlchemy(model_class=Base)
migrate = Migrate()
api = ProblemApi()
