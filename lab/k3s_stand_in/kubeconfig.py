"""Writes and reads kubeconfig files."""

from __future__ import annotations

import base64
import ssl
import tempfile
from pathlib import Path
from typing import Any

import yaml

from . import client
from .errors import StandInError
from .kinds import Object


def compose(server: str, ca: bytes, user: Object) -> str:
    """A kubeconfig with everything named "default", as K3s writes it."""
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "default", "cluster": {"server": server, "certificate-authority-data": encode(ca)}}
            ],
            "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
            "current-context": "default",
            "preferences": {},
            "users": [{"name": "default", "user": user}],
        },
        sort_keys=False,
    )


def encode(content: bytes) -> str:
    return base64.b64encode(content).decode()


def client_of(file: Path) -> tuple[client.Client, bytes]:
    """A client for the current context, and the CA (PEM); raises StandInError."""
    try:
        config = yaml.safe_load(file.read_text())
        context = _named(config, "contexts", config["current-context"])["context"]
        cluster = _named(config, "clusters", context["cluster"])["cluster"]
        user = _named(config, "users", context["user"])["user"]
        ca = base64.b64decode(cluster["certificate-authority-data"])
        trust = client.trusting(ca)
        if "client-certificate-data" in user:
            _load_certificate(trust, user)
        elif "client-certificate" in user:  # a kubelet's
            trust.load_cert_chain(user["client-certificate"], user["client-key"])
        headers = client.bearer(user["token"]) if "token" in user else {}
        return client.Client(cluster["server"], trust, headers), ca
    except OSError as exc:
        raise StandInError(
            f"Unable to read {file}, start the server first, or run as root: {exc.strerror}"
        ) from exc
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as exc:
        raise StandInError(f'error loading config file "{file}": {type(exc).__name__}: {exc}') from exc


def _named(config: Any, group: str, name: str) -> Any:
    return next(entry for entry in config[group] if entry["name"] == name)


def _load_certificate(trust: ssl.SSLContext, user: Any) -> None:
    # ssl reads certificates from files only.
    with tempfile.TemporaryDirectory(prefix="k3s-") as directory:
        files = Path(directory, "client.crt"), Path(directory, "client.key")
        for file, key in zip(files, ("client-certificate-data", "client-key-data"), strict=True):
            file.touch(mode=0o600)
            file.write_bytes(base64.b64decode(user[key]))
        trust.load_cert_chain(*files)
