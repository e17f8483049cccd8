"""Settings: typed, bounded, from the environment or from credential files; a bad one names itself."""

from __future__ import annotations

import stat
from datetime import timedelta
from pathlib import Path

import pytest

from control_api import first_run, settings
from control_api.errors import BadSettings
from tests.control_api.world import PASSWORD, SETTINGS, make_settings

PRODUCTION = {**SETTINGS, "DATABASE_URL": "postgresql://muster:x@127.0.0.1/muster"}


def given(monkeypatch: pytest.MonkeyPatch, **values: str | None) -> None:
    for name, value in {**PRODUCTION, **values}.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)


def test_the_missions_names_are_read_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    given(
        monkeypatch,
        REDIS_URL="redis://localhost:6379",
        PORT="3001",
        JWT_EXPIRES_IN="24h",
        JWT_REFRESH_EXPIRES_IN="7d",
        K3S_MASTER_URL="https://10.0.0.1:6443",
        K3S_CLUSTER_TOKEN="K10abcdef::node:0123456789",
        HEARTBEAT_TIMEOUT_MINUTES="2",
    )
    read = settings.load()
    assert read.port == 3001
    assert (read.jwt_expires_in, read.jwt_refresh_expires_in) == (timedelta(hours=24), timedelta(days=7))
    assert read.master_url == "https://10.0.0.1:6443"
    assert read.rules.timeout == timedelta(minutes=2)
    assert read.database_url.get_secret_value() == PRODUCTION["DATABASE_URL"]


def test_defaults_detect_a_dead_worker_in_less_than_two_minutes() -> None:
    read = make_settings("sqlite:///x.db")
    assert (read.heartbeat_seconds, read.rules.timeout, read.tick_seconds) == (30, timedelta(seconds=90), 5)
    assert read.rules.timeout.total_seconds() + read.tick_seconds < 120


@pytest.mark.parametrize(
    ("minutes", "interval", "tick"), [("0.1", 2, 1.0), ("0.5", 10, 5.0), ("1.5", 30, 5.0), ("60", 30, 5.0)]
)
def test_a_worker_may_always_miss_two_heartbeats(minutes: str, interval: int, tick: float) -> None:
    read = make_settings("sqlite:///x.db", HEARTBEAT_TIMEOUT_MINUTES=minutes, MUSTER_JOIN_GRACE_MINUTES="60")
    assert (read.heartbeat_seconds, read.tick_seconds) == (interval, tick)
    assert 3 * read.heartbeat_seconds <= read.rules.timeout.total_seconds()


def test_secrets_come_from_credential_files_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in PRODUCTION.items():
        (tmp_path / name).write_text(f"{value}\n")
    (tmp_path / "kubeconfig").write_text("not a setting")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    read = settings.load()
    assert read.worker_auth_secret.get_secret_value() == SETTINGS["WORKER_AUTH_SECRET"]
    assert read.database_url.get_secret_value() == PRODUCTION["DATABASE_URL"]
    assert settings.load_database().database_url.get_secret_value() == PRODUCTION["DATABASE_URL"]


def test_credentials_alone_mean_production(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(BadSettings, match="DATABASE_URL is missing"):
        settings.load()


SECRETS = [name for name in SETTINGS if name not in {"K3S_MASTER_URL", "MUSTER_INVENTORY_KEY"}]


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "short",
        "a" * 64,
        "your-worker-auth-secret-0123456789abcdef",
        "changeme-changeme-changeme-changeme",
    ],
)
def test_a_weak_secret_refuses_to_start_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str | None
) -> None:
    given(monkeypatch, **{name: value})
    with pytest.raises(BadSettings, match=name) as caught:
        settings.load()
    assert not value or value not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "http"),
        ("HEARTBEAT_TIMEOUT_MINUTES", "abc"),
        ("HEARTBEAT_TIMEOUT_MINUTES", "0"),
        ("HEARTBEAT_TIMEOUT_MINUTES", "nan"),
        ("HEARTBEAT_TIMEOUT_MINUTES", "-1"),
        ("HEARTBEAT_TIMEOUT_MINUTES", "20"),  # longer than the join grace
        ("MUSTER_JOIN_GRACE_MINUTES", "0"),
        ("JWT_EXPIRES_IN", "soon"),
        ("JWT_EXPIRES_IN", "10s"),
        ("K3S_MASTER_URL", "10.0.0.1:6443"),
        ("K3S_CLUSTER_TOKEN", "your-k3s-cluster-token"),
        ("MUSTER_INVENTORY_KEY", "short"),
        ("MUSTER_KUBECONFIG", "/nowhere/at/all"),
        ("MUSTER_ADMIN_USERNAME", "Admin User"),
        ("MUSTER_WORKER_AUTH_SECRET_OLD", "short"),
    ],
)
def test_a_bad_value_refuses_to_start_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    given(monkeypatch, **{name: value})
    with pytest.raises(BadSettings, match=name):
        settings.load()


def test_everything_that_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, JWT_SECRET=None, PORT="x", WORKER_AUTH_SECRET="short")
    with pytest.raises(BadSettings, match=r"PORT.*JWT_SECRET is missing.*WORKER_AUTH_SECRET is too weak"):
        settings.load()


def test_optional_settings_may_be_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["REDIS_URL", "K3S_MASTER_URL", "K3S_CLUSTER_TOKEN", "MUSTER_KUBECONFIG", "MUSTER_INVENTORY_KEY"]
    given(monkeypatch, **dict.fromkeys(names, ""))
    read = settings.load()
    assert (read.redis_url, read.master_url, read.k3s_cluster_token, read.kubeconfig, read.inventory_key) == (
        None,
    ) * 5


def test_no_secret_is_in_the_text_of_the_settings() -> None:
    text = repr(make_settings("postgresql://u:the-password@h/d"))
    for secret in [*[SETTINGS[name] for name in SECRETS], "the-password"]:
        assert secret not in text


# ---- nothing configured


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "muster"


def test_with_nothing_configured_secrets_are_made_once_and_shown_once(
    state: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = settings.load()
    shown = capfd.readouterr()
    assert first.worker_registration_token.get_secret_value() in shown.err
    assert f"admin / {first.admin_password.get_secret_value()}" in shown.err
    assert first.jwt_secret.get_secret_value() not in shown.err + shown.out
    assert settings.load() == first
    assert capfd.readouterr() == ("", "")
    assert first.database_url.get_secret_value() == f"sqlite:///{state / 'muster.db'}"


def test_what_the_environment_gives_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, state: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MUSTER_ADMIN_USERNAME", "root")
    monkeypatch.setenv("MUSTER_ADMIN_PASSWORD", PASSWORD)
    assert settings.load().admin_password.get_secret_value() == PASSWORD
    shown = capfd.readouterr().err
    assert "root / (from the environment)" in shown
    assert PASSWORD not in shown


def test_the_file_of_the_secrets_is_its_owners_alone(state: Path) -> None:
    settings.load()
    assert stat.S_IMODE((state / first_run.FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert [path.name for path in state.iterdir()] == [first_run.FILE]


def test_every_installation_has_secrets_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = set()
    for number in range(3):
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / str(number)))
        made |= set(first_run.secrets_in(settings.state_directory(), given={}).values())
    assert len(made) == 3 * len(first_run.NAMES)


def test_the_environment_wins_over_what_was_generated(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    monkeypatch.setenv("WORKER_REGISTRATION_TOKEN", "a-token-from-the-environment")
    assert settings.load().worker_registration_token.get_secret_value() == "a-token-from-the-environment"


def test_an_empty_secret_is_refused_even_when_nothing_else_is_configured(
    monkeypatch: pytest.MonkeyPatch, state: Path
) -> None:
    monkeypatch.setenv("WORKER_REGISTRATION_TOKEN", "")
    with pytest.raises(BadSettings, match="WORKER_REGISTRATION_TOKEN"):
        settings.load()


def test_systemds_state_directory_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    assert settings.load_database().database_url.get_secret_value() == f"sqlite:///{tmp_path}/state/muster.db"
