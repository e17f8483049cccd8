"""The settings of the service: typed, bounded, read once; a bad one refuses to start by its name."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    HttpUrl,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from control_api import first_run
from control_api.errors import BadSettings
from control_api.workers.lifecycle import Rules

PLACEHOLDER = re.compile(
    r"^your[-_ ]|change[-_ ]?me|placeholder|<.*>|^(secret|password|token)\d*$", re.IGNORECASE
)
DURATION = re.compile(r"([0-9]{1,9})([smhd]?)\Z")
SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
HEARTBEAT_SECONDS = 30.0
TICK_SECONDS = 5.0


def strong(minimum: int) -> AfterValidator:
    """Return a validator that refuses a secret that is short, repetitive or copied from a manual."""

    def check(secret: SecretStr | None) -> SecretStr | None:
        if secret is None:
            return None
        value = secret.get_secret_value()
        if PLACEHOLDER.search(value):
            msg = "is a placeholder, put a real secret there"
            raise ValueError(msg)
        if len(value) < minimum or len(set(value)) < 5:
            msg = f"is too weak, use at least {minimum} random characters"
            raise ValueError(msg)
        return secret

    return AfterValidator(check)


def duration(value: object) -> object:
    """Parse `24h`, `7d`, `15m`, `90s` or plain seconds into a timedelta."""
    if isinstance(value, timedelta):
        return value
    found = DURATION.match(str(value))
    if not found:
        msg = "is not a duration such as 15m, 24h or 7d"
        raise ValueError(msg)
    return timedelta(seconds=int(found[1]) * SECONDS[found[2]])


def none_if_blank(value: object) -> object:
    """Take an empty variable for one that is not set."""
    return None if isinstance(value, str) and not value.strip() else value


Loaded = TypeVar("Loaded", bound="DatabaseSettings")
Duration = Annotated[
    timedelta, BeforeValidator(duration), Field(ge=timedelta(minutes=1), le=timedelta(days=365))
]
Optional = BeforeValidator(none_if_blank)
DatabaseUrl = Annotated[SecretStr, Field(validation_alias="DATABASE_URL", min_length=1)]


class DatabaseSettings(BaseSettings):
    """What is needed to reach the database, and nothing else."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", case_sensitive=True)

    database_url: DatabaseUrl


class Settings(DatabaseSettings):
    """Every setting, by the name of its environment variable or credential file."""

    redis_url: Annotated[SecretStr | None, Optional] = Field(None, validation_alias="REDIS_URL")
    port: int = Field(3000, validation_alias="PORT", ge=1, le=65535)
    host: str = Field("127.0.0.1", validation_alias="MUSTER_HOST", min_length=1)
    jwt_secret: Annotated[SecretStr, strong(32)] = Field(validation_alias="JWT_SECRET")
    jwt_expires_in: Duration = Field(timedelta(hours=24), validation_alias="JWT_EXPIRES_IN")
    jwt_refresh_secret: Annotated[SecretStr, strong(32)] = Field(validation_alias="JWT_REFRESH_SECRET")
    jwt_refresh_expires_in: Duration = Field(timedelta(days=7), validation_alias="JWT_REFRESH_EXPIRES_IN")
    worker_registration_token: Annotated[SecretStr, strong(16)] = Field(
        validation_alias="WORKER_REGISTRATION_TOKEN"
    )
    worker_auth_secret: Annotated[SecretStr, strong(32)] = Field(validation_alias="WORKER_AUTH_SECRET")
    worker_auth_secret_old: Annotated[SecretStr | None, Optional, strong(32)] = Field(
        None, validation_alias="MUSTER_WORKER_AUTH_SECRET_OLD"
    )
    k3s_master_url: Annotated[HttpUrl | None, Optional] = Field(None, validation_alias="K3S_MASTER_URL")
    k3s_cluster_token: Annotated[SecretStr | None, Optional, strong(8)] = Field(
        None, validation_alias="K3S_CLUSTER_TOKEN"
    )
    kubeconfig: Annotated[Path | None, Optional] = Field(None, validation_alias="MUSTER_KUBECONFIG")
    heartbeat_timeout_minutes: float = Field(
        1.5, validation_alias="HEARTBEAT_TIMEOUT_MINUTES", ge=0.05, le=60, allow_inf_nan=False
    )
    join_grace_minutes: float = Field(
        10, validation_alias="MUSTER_JOIN_GRACE_MINUTES", ge=0.05, le=1440, allow_inf_nan=False
    )
    admin_username: str = Field(
        "admin", validation_alias="MUSTER_ADMIN_USERNAME", pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$"
    )
    admin_password: Annotated[SecretStr, strong(8)] = Field(validation_alias="MUSTER_ADMIN_PASSWORD")
    inventory_key: Annotated[SecretStr | None, Optional, strong(16)] = Field(
        None, validation_alias="MUSTER_INVENTORY_KEY"
    )

    audit_retention: Annotated[
        timedelta, BeforeValidator(duration), Field(ge=timedelta(days=1), le=timedelta(days=3650))
    ] = Field(timedelta(days=365), validation_alias="MUSTER_AUDIT_RETENTION")
    history_days: Annotated[int | None, Optional] = Field(
        None, validation_alias="MUSTER_HISTORY_DAYS", ge=1, le=36500
    )
    webhook_local: bool = Field(default=False, validation_alias="MUSTER_WEBHOOK_LOCAL")

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.rules.join_grace < self.rules.timeout:
            msg = "MUSTER_JOIN_GRACE_MINUTES must not be shorter than HEARTBEAT_TIMEOUT_MINUTES"
            raise ValueError(msg)
        if self.kubeconfig is not None and not self.kubeconfig.is_file():
            msg = f"MUSTER_KUBECONFIG names {self.kubeconfig}, which is not a file"
            raise ValueError(msg)
        return self

    @property
    def rules(self) -> Rules:
        """The times that decide a worker's status."""
        return Rules(
            timeout=timedelta(minutes=self.heartbeat_timeout_minutes),
            join_grace=timedelta(minutes=self.join_grace_minutes),
        )

    @property
    def history(self) -> timedelta | None:
        """How long history is kept; None: for ever."""
        return None if self.history_days is None else timedelta(days=self.history_days)

    @property
    def heartbeat_seconds(self) -> int:
        """Seconds between two heartbeats: 30, or less so that a worker may always miss two of them.

        It is the same for everyone and at any load: with three intervals to the timeout there is nothing to
        stretch, since a longer one would make a single lost heartbeat look like death. A server with more
        heartbeats than it can store turns the rest away with 503, and they come back with full jitter.
        """
        return max(1, int(min(HEARTBEAT_SECONDS, self.rules.timeout.total_seconds() / 3)))

    @property
    def tick_seconds(self) -> float:
        """Seconds between two looks of the monitor: 5, or less where the timeout is short."""
        return min(TICK_SECONDS, self.rules.timeout.total_seconds() / 6)

    @property
    def master_url(self) -> str | None:
        """Where workers join K3s, without the slash that a URL type puts at its end."""
        return str(self.k3s_master_url).rstrip("/") if self.k3s_master_url else None


def load() -> Settings:
    """Return the settings of the service.

    With DATABASE_URL or systemd credentials given, every secret must be given too. With neither, the service
    is embedded: SQLite, and secrets that are generated once beside it.
    Raises BadSettings with the names of the variables that are missing or not usable.
    """
    return _load(Settings, _embedded_values() if is_embedded() else {})


def load_database() -> DatabaseSettings:
    """Return what is needed to reach the database. Raises BadSettings."""
    return _load(DatabaseSettings, {"DATABASE_URL": _sqlite_url()} if is_embedded() else {})


def is_embedded() -> bool:
    """Say whether neither a database nor credentials are configured."""
    return not os.environ.get("DATABASE_URL") and not os.environ.get("CREDENTIALS_DIRECTORY")


def state_directory() -> Path:
    """Return where an embedded service keeps its database and its secrets; make it when it is not there."""
    if given := os.environ.get("STATE_DIRECTORY"):
        directory = Path(given.split(":")[0])
    else:
        base = os.environ.get("XDG_STATE_HOME")
        directory = (Path(base) if base else Path.home() / ".local/state") / "muster"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return directory


def _sqlite_url() -> str:
    return f"sqlite:///{state_directory() / 'muster.db'}"


def _embedded_values() -> dict[str, str]:
    return {"DATABASE_URL": _sqlite_url(), **first_run.secrets_in(state_directory(), given=os.environ)}


def _load(kind: type[Loaded], defaults: dict[str, str]) -> Loaded:
    given: dict[str, Any] = {name: value for name, value in defaults.items() if name not in os.environ}
    from_files: dict[str, Any] = {"_secrets_dir": os.environ.get("CREDENTIALS_DIRECTORY")}
    try:
        return kind(**given, **from_files)
    except ValidationError as exc:
        raise BadSettings(_sentence(exc)) from None  # the original error would show the values


def _sentence(exc: ValidationError) -> str:
    """Say which variables are wrong, and never what was in them."""
    wrong = []
    for error in exc.errors(include_input=False, include_url=False, include_context=False):
        name = ".".join(str(part) for part in error["loc"])
        text = "is missing" if error["type"] == "missing" else error["msg"].removeprefix("Value error, ")
        wrong.append(f"{name} {text}".strip())
    return f"The settings are not usable: {'; '.join(wrong)}."
