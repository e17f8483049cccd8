"""The secrets of an embedded service: generated once into a file that only its owner reads."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

NAMES = (
    "JWT_SECRET",
    "JWT_REFRESH_SECRET",
    "WORKER_REGISTRATION_TOKEN",
    "WORKER_AUTH_SECRET",
    "MUSTER_ADMIN_PASSWORD",
)
FILE = "secrets.env"


def secrets_in(directory: Path, *, given: Mapping[str, str]) -> dict[str, str]:
    """Return the secrets kept in `directory`; generate, keep and show them once when there are none yet.

    given: the environment, whose values win and are not shown.
    """
    path = directory / FILE
    if not path.exists():
        _write(path, {name: secrets.token_urlsafe(32 if "SECRET" in name else 18) for name in NAMES})
        _show(path, given)
    return _read(path)


def _read(path: Path) -> dict[str, str]:
    lines = path.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def _write(path: Path, values: dict[str, str]) -> None:
    """Write all or nothing: of two services that start at once, the file of one becomes the truth of both."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(f"{name}={value}\n" for name, value in values.items())
        file.flush()
        os.fsync(file.fileno())
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _show(path: Path, given: Mapping[str, str]) -> None:
    values = {**_read(path), **dict.fromkeys(given, "(from the environment)")}
    admin = given.get("MUSTER_ADMIN_USERNAME", "admin")
    sys.stderr.write(
        f"First start. This is shown once; you find it again in {path}.\n"
        f"  admin login         {admin} / {values['MUSTER_ADMIN_PASSWORD']}\n"
        f"  registration token  {values['WORKER_REGISTRATION_TOKEN']}\n"
    )
