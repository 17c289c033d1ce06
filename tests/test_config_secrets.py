"""No setting that may hold a secret is told: by a refusal, the log or a representation."""

from __future__ import annotations

import pytest

from app.config import Settings
from app.environment import SettingsError

pytestmark = pytest.mark.usefixtures("no_settings")

SECRETS = {
    "DATABASE_URL": "postgresql://user:s3cret@host/name?sslpassword=s3cret&sslmode=require",
    "REDIS_URL": "redis://:s3cret@host/0",
    "ADMIN_API_KEY": "s3cret",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "https://user:s3cret@collector:4318/s3cret?api-key=s3cret",
    "JAEGER_HOST": "user:s3cret@jaeger",
}


def test_what_may_hold_a_secret_is_not_in_the_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    assert "s3cret" not in repr(Settings.from_env())


@pytest.mark.parametrize(
    "url", ["redis://:s3cret@[x", "redis://:s3cret@host:port", "redis+cluster://:s3cret@one,two:port"]
)
def test_a_refusal_holds_no_secret(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    with pytest.raises(SettingsError, match="REDIS_URL=redis") as caught:
        Settings.from_env()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "user:s3cret@host/name"),
        ("DATABASE_URL", "postgresql://user:half@s3cret@host/name"),
        ("DATABASE_URL", "postgresql://user:1/half@s3cret@host/name"),
        ("DATABASE_URL", "postgresql://host/name?sslpassword=s3cret&nope=1"),
        ("REDIS_URL", "user:s3cret@host:6379"),
        ("REDIS_URL", "redis+sentinel://host/?sentinel_password=s3cret"),
        ("REDIS_HOST", "redis://:s3cret@host"),
        ("REDIS_HOST", "user:s3cret@host"),
        ("BIND", "user:s3cret@host"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "user:s3cret@collector"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://collector/?token=s3cret"),
        ("ADMIN_API_KEY_FILE", "s3cret"),
        ("ADMIN_API_KEY", "change me, s3cret"),
    ],
)
def test_no_refusal_tells_a_secret_that_stands_where_it_should_not(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        Settings.from_env()
    assert str(refused.value).startswith(f"{name}=")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "redis_url",
    [
        "redis://:s3cret@host/0",
        "rediss://user:s3cret@host/0",
        "unix:///socket?db=0&password=s3cret",
        "redis+cluster://user:s3cret@one:7000,two",
        "rediss+sentinel://user:s3cret@one,two:26379/master/1?sentinel_password=s3cret",
    ],
)
def test_what_is_logged_holds_no_secret(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    for name, value in (
        SECRETS | {"REDIS_URL": redis_url, "MIGRATION_DATABASE_URL": "postgresql://owner:s3cret@host/name"}
    ).items():
        monkeypatch.setenv(name, value)
    shown = Settings.from_env().public()
    assert "s3cret" not in str(shown)
    assert (shown["jaeger_host"], shown["otel_exporter_otlp_endpoint"]) == ("user:***@jaeger", "https://collector:4318")
    assert shown["database_url"] == "postgresql+psycopg2://user:***@host/name?sslpassword=***&sslmode=require"


@pytest.mark.parametrize("character", ["/", "#", "?", "@"])
@pytest.mark.parametrize("name", ["REDIS_URL", "DATABASE_URL"])
def test_a_password_that_makes_it_no_url_is_not_told(
    monkeypatch: pytest.MonkeyPatch, name: str, character: str
) -> None:
    monkeypatch.setenv(name, f"ftp://user:s3cret{character}s3cret@host/0")
    with pytest.raises(SettingsError) as refused:
        Settings.from_env()
    assert "s3cret" not in str(refused.value)
    assert "user:***@host" in str(refused.value)
