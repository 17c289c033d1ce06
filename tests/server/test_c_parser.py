"""With `make c-parser` gunicorn parses by its C parser whatever the fast lane leaves to it."""

from __future__ import annotations

import pytest
from gunicorn.config import Config
from gunicorn.http import message

from tests.support.node import ROOT

pytest.importorskip("gunicorn_h1c", reason="gunicorn's C parser is not installed (make c-parser)")


def test_nothing_in_our_configuration_keeps_gunicorn_from_it() -> None:
    config = Config()
    for name in message._FAST_PARSER_INCOMPATIBLE_FLAGS:
        assert name not in (ROOT / "gunicorn.conf.py").read_text()
    assert message._check_fast_parser(config)
