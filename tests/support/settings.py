"""The variables of the environment that are settings."""

from __future__ import annotations

import re

from tests.support.node import ROOT

VARIABLES = re.findall(r"^#? ?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
