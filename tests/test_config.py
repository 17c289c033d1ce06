"""Settings: defaults, files for secrets, and refusals that name variable, value and what is allowed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.config import Settings
from app.environment import SettingsError
from tests.support.node import ROOT
from tests.support.settings import VARIABLES

pytestmark = pytest.mark.usefixtures("no_settings")


def test_the_defaults_are_the_contracts() -> None:
    settings = Settings.from_env()
    assert (settings.redis_url, settings.redis_embedded) == ("redis://localhost:6379/0", True)
    assert (settings.algorithm, settings.fail_mode, settings.check_auth) == ("token_bucket", "open", "open")
    assert (settings.default_rate, settings.default_window, settings.redis_timeout_ms) == (100, 60, 50)
    assert (settings.breaker_failures, settings.breaker_reset_seconds) == (5, 60)
    assert (settings.bind, settings.port, settings.ratelimit_headers) == ("127.0.0.1", 8000, "draft-10")


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("PORT", "0", "an integer from 1 to 65535"),
        ("PORT", "eight", "an integer from 1 to 65535"),
        ("FAIL_MODE", "maybe", "open | closed | local"),
        ("ALGORITHM", "leaky", "token_bucket | fixed_window"),
        ("FAST_LANE", "perhaps", "true | false"),
        ("REDIS_URL", "http://localhost", "redis://…"),
        ("REDIS_URL", "redis://redis..svc:6379", "redis://…"),
        ("REDIS_URL", "redis+cluster://a:1,b..c:2", "redis://…"),
        ("DATABASE_URL", "mysql://localhost", "postgresql://…"),
        ("REDIS_URL", "redis://localhost:port/0", "redis://…"),
        ("REDIS_URL", "redis://localhost/0?foo=1", "options that exist (got an unexpected keyword argument 'foo')"),
        ("REDIS_URL", "redis+sentinel://one:26379,two:26379", "redis+sentinel://host:port,…/master"),
        ("REDIS_URL", "redis+sentinel://one:26379,two:/master", "redis+sentinel://host:port,…/master"),
        ("REDIS_URL", "redis+sentinel://one:0/master", "redis+sentinel://host:port,…/master"),
        ("REDIS_URL", "redis+sentinel://one,/master", "redis+sentinel://host:port,…/master"),
        ("REDIS_URL", "redis+sentinel://one/master/first", "redis+sentinel://host:port,…/master"),
        ("REDIS_URL", "redis+cluster://one:7000,two:many", "redis+cluster://host:port,…"),
        ("REDIS_URL", "redis+cluster://one:7000/1", "redis+cluster://host:port,…"),
        ("REDIS_URL", "redis+cluster://one two:7000", "redis+cluster://host:port,…"),
        ("REDIS_URL", "redis+proxy://one:7000", "redis+cluster://host:port,…"),
        ("REDIS_URL", "unix+cluster://one:7000", "redis+cluster://host:port,…"),
        ("DATABASE_URL", "postgresql://localhost:port/name", "postgresql://…"),
        ("DATABASE_URL", "postgresql:host", "postgresql://…"),
        ("DATABASE_URL", "postgresql://host:/name", "postgresql://…"),
        ("DATABASE_URL", "postgresql://postgres..svc/name", "postgresql://…"),
        ("DATABASE_URL", f"postgresql://one,{'p' * 64}/name", "postgresql://…"),
        ("DATABASE_URL", "postgresql://host/name?nope=1", "with options of libpq ('nope' is not one)"),
        ("REDIS_URL", "redis://localhost/abc", "redis://…"),
        ("REDIS_URL", "redis://localhost/-1", "redis://…"),
        ("REDIS_HOST", "cache:7000", "a host name or an address"),
        ("REDIS_HOST", "::::", "a host name or an address"),
        ("REDIS_HOST", "cache/1", "a host name or an address"),
        ("REDIS_HOST", "cache?x=1", "a host name or an address"),
        ("REDIS_HOST", "user@cache", "a host name or an address"),
        ("REDIS_HOST", "redis..svc", "a host name or an address"),
        ("REDIS_HOST", "r" * 64, "a host name or an address"),
        ("BIND", "*", "an IP address, or localhost"),
        ("BIND", "256.1.1.1", "an IP address, or localhost"),
        ("BIND", "1.2.3.4:80", "an IP address, or localhost"),
        ("BIND", "unix:/tmp/socket", "an IP address, or localhost"),
        ("TRUSTED_PROXIES", "nobody", "addresses and networks"),
        ("AUTHORIZE_BY", "cookie", "key, address and header:NAME"),
        ("AUTHORIZE_BY", "header:X_User", "key, address and header:NAME"),
        ("AUTHORIZE_BY", "key,", "key, address and header:NAME"),
        ("AUTHORIZE_GROUPS", "org", "1 to 8 of PREFIX=HEADER"),
        ("AUTHORIZE_GROUPS", "org=X_Org", "1 to 8 of PREFIX=HEADER"),
        ("AUTHORIZE_GROUPS", "org:=X-Org", "1 to 8 of PREFIX=HEADER"),
        ("AUTHORIZE_GROUPS", f"{'o' * 33}=X-Org", "1 to 8 of PREFIX=HEADER"),
        ("AUTHORIZE_GROUPS", "org=X-Org, org=X-Team", "each prefix once"),
        ("AUTHORIZE_GROUPS", ",".join(f"o{place}=X-Org" for place in range(9)), "1 to 8 of PREFIX=HEADER"),
        ("AUTHORIZE_TENANT", "t" * 65, "a name of 1 to 64 printable characters"),
        ("AUTHORIZE_TENANT", "a\x07b", "a name of 1 to 64 printable characters"),
        ("DRAIN_SECONDS", "-1", "seconds from 0 to 3600"),
        ("LOG_FORMAT", "xml", "text | json"),
        ("OTEL_TRACES_SAMPLER", "sometimes", "always_on | always_off | traceidratio | parentbased_always_on"),
        ("OTEL_TRACES_SAMPLER_ARG", "abc", "a number from 0 to 1"),
        ("OTEL_TRACES_SAMPLER_ARG", "nan", "a number from 0 to 1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector..svc:4318", "http://…, https://…"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "foo", "http://…, https://…"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector:4318", "http://…, https://…"),
        ("DEFAULT_RATE", "1000000001", "an integer from 1 to 1000000000"),
    ],
)
def test_a_bad_value_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, allowed: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        Settings.from_env()
    message = str(caught.value)
    assert message.startswith(f"{name}={value}: allowed is ")
    assert allowed in message
    assert "\n" not in message


def test_default_rate_and_window_hold_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFAULT_RATE", "1000000000")
    with pytest.raises(SettingsError, match="DEFAULT_RATE x DEFAULT_WINDOW"):
        Settings.from_env()


def test_a_secret_may_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from the file\n")
    monkeypatch.setenv("ADMIN_API_KEY_FILE", str(tmp_path / "key"))
    assert Settings.from_env().admin_api_key == "from the file"


def test_an_env_file_in_the_working_directory_counts_and_the_environment_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("PORT=8001\nSERVICE_NAME=file\nREDIS_URL=\n")
    monkeypatch.setenv("PORT", "8002")
    settings = Settings.from_env()
    assert (settings.port, settings.service_name, settings.redis_embedded) == (8002, "file", True)


def test_a_file_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADMIN_API_KEY_FILE", str(tmp_path / "none"))
    with pytest.raises(SettingsError) as refused:
        Settings.from_env()
    assert str(refused.value) == f"ADMIN_API_KEY_FILE={tmp_path / 'none'}: allowed is a file that can be read"


def test_names_in_the_env_file_that_are_nearly_settings_are_noticed(tmp_path: Path) -> None:
    others = "OTEL_SERVICE_NAMES=x\nCOMPOSE_PROFILES=cluster\nREDIS=cluster\nADMIN_API_KEY_FILE=\n"
    (tmp_path / ".env").write_text(f"REDISURL=redis://x\nFAIL_MODE=open\nFAILMODE=closed\n{others}")
    settings = Settings.from_env()
    assert settings.misspelt == {"REDISURL": "REDIS_URL", "FAILMODE": "FAIL_MODE"}
    assert "misspelt" not in settings.public()


def test_no_name_of_the_example_file_passes_for_a_misspelt_one(tmp_path: Path) -> None:
    example = (ROOT / ".env.example").read_text()
    (tmp_path / ".env").write_text(example.replace("REDIS_URL=", "REDIS_URL=redis://x", 1))
    assert Settings.from_env().misspelt == {}


def test_without_loopback_checks_need_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIND", "0.0.0.0")
    assert Settings.from_env().check_auth == "required"


@pytest.mark.parametrize("address", ["localhost", "127.0.0.2", "::1", "[::1]"])
def test_on_loopback_they_need_none(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("BIND", address)
    settings = Settings.from_env()
    assert (settings.check_auth, settings.bind) == ("open", address.strip("[]"))


def test_behind_a_proxy_they_need_one_unless_open_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers behind the proxy come from this machine too."""
    monkeypatch.setenv("TRUSTED_PROXIES", "127.0.0.1")
    settings = Settings.from_env()
    assert settings.check_auth == "required"
    [caution] = settings.cautions
    assert "CHECK_AUTH is required, because TRUSTED_PROXIES is set" in caution
    monkeypatch.setenv("CHECK_AUTH", "open")
    assert (Settings.from_env().check_auth, Settings.from_env().cautions) == ("open", ())


SHORT, LONG = "x" * 23, "x" * 24  # as README.md says
EXPOSED = [{"BIND": "0.0.0.0"}, {"BIND": "::"}, {"TRUSTED_PROXIES": "127.0.0.1", "CHECK_AUTH": "required"}]


@pytest.mark.parametrize("exposure", EXPOSED)
def test_a_short_bootstrap_key_is_refused_where_others_can_try_it(
    monkeypatch: pytest.MonkeyPatch, exposure: dict[str, str]
) -> None:
    for name, value in exposure.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ADMIN_API_KEY", SHORT)
    with pytest.raises(SettingsError) as refused:
        Settings.from_env()
    assert str(refused.value).startswith("ADMIN_API_KEY=***: allowed is at least 24 characters")
    assert SHORT not in str(refused.value)
    monkeypatch.setenv("ADMIN_API_KEY", LONG)
    assert (Settings.from_env().admin_api_key, Settings.from_env().cautions) == (LONG, ())


def test_on_loopback_a_short_bootstrap_key_is_said_and_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_API_KEY", SHORT)
    [caution] = Settings.from_env().cautions
    assert "ADMIN_API_KEY has fewer than" in caution
    assert SHORT not in caution


def example_keys() -> list[str]:
    """Every value that a file of the project shows for the bootstrap key."""
    files = [path for path in (ROOT / "deploy").rglob("*") if path.is_file()]
    files += [ROOT / "README.md", ROOT / ".env.example", ROOT / "docker-compose.yml", *(ROOT / "docs").glob("*.md")]
    named = re.compile(r"\badmin_api_key[=:][ ]*['\"]?([^\s{'\"`$][^\n'\"`]*)", re.IGNORECASE)
    return [found for path in files for found in named.findall(path.read_text())]


def test_the_bootstrap_key_of_an_example_is_refused_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    examples = example_keys()
    assert "change me" in examples
    for value in [*examples, "CHANGE-ME", "change_me_too_this_is_an_example"]:
        monkeypatch.setenv("ADMIN_API_KEY", value)
        with pytest.raises(SettingsError, match="not the key of an example"):
            Settings.from_env()


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_redis_at_an_ipv6_address(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("REDIS_HOST", host)
    assert Settings.from_env().redis_url == "redis://[::1]:6379/0"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:100%@host/name",
        "postgresql://host/name?options=-csearch_path=x&sslmode=require",
        "postgresql:///name?host=/run/postgresql",
        "postgresql://one,two/name?host=three:5432",
        f"postgresql://%2Frun%2F{'p' * 64}/name",
        "postgresql://postgres.svc./name",
    ],
)
def test_databases_that_sqlalchemy_reads_may_be(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    assert (Settings.from_env().database_url or "").endswith(url.partition(":")[2])


def test_redis_by_parts_and_the_driver_of_the_database_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_HOST", "cache")
    monkeypatch.setenv("REDIS_PORT", "7000")
    monkeypatch.setenv("DATABASE_URL", "postgres://user:secret@host/name")
    settings = Settings.from_env()
    assert (settings.redis_url, settings.redis_embedded) == ("redis://cache:7000/0", False)
    assert settings.database_url == "postgresql+psycopg2://user:secret@host/name"


def test_every_setting_is_in_the_example_file_and_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    source = (ROOT / "app" / "config.py").read_text()
    read = set(re.findall(r'env\.\w+\(\s*"([A-Z_]+)"', source)) | set(re.findall(r"env\.\w+\('([A-Z_]+)'", source))
    assert len(read) > 25
    assert read <= set(VARIABLES)
    assert [name for name in sorted(read) if f"`{name}`" not in readme] == []
