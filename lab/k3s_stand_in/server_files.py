"""What the server keeps on disk besides its database: CAs, join tokens, certificates, a kubeconfig."""

from __future__ import annotations

import secrets
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import agent, identity, kubeconfig, paths, pki, tokens
from .errors import StandInError, UsageError
from .settings import Settings


@dataclass(frozen=True)
class Authorities:
    """K3s signs servers and clients by two different CAs."""

    server: pki.Authority
    client: pki.Authority


@dataclass(frozen=True)
class Passwords:
    """What servers and agents join with."""

    server: str
    agent: str


def authorities(files: paths.Paths) -> Authorities:
    made = int(time.time())
    return Authorities(
        pki.authority(files.tls, "server-ca", f"k3s-server-ca@{made}"),
        pki.authority(files.tls, "client-ca", f"k3s-client-ca@{made}"),
    )


def signing_key(files: paths.Paths) -> bytes:
    """The key of service account tokens, made on the first call."""
    file = files.tls / "service.key"
    if not file.exists():
        paths.write(file, secrets.token_bytes(32))
    return file.read_bytes()


def passwords(files: paths.Paths, settings: Settings, ca: bytes) -> Passwords:
    """The tokens in force, written to server/token, node-token and agent-token in their secure form."""
    server = _server_password(files, settings, ca)
    _link(files, "node-token")
    own = _given(settings, "agent-token", ca)
    if not own:
        _link(files, "agent-token")
        return Passwords(server, server)
    paths.write(files.server / "agent-token", tokens.secure(f"node:{own}", ca) + "\n")
    return Passwords(server, own)


def tls_context(files: paths.Paths, trusted: Authorities, names: Sequence[str]) -> ssl.SSLContext:
    """Serves by a fresh certificate for `names`; client certificates are welcome, not required."""
    certificate, key = files.tls / "serving-kube-apiserver.crt", files.tls / "serving-kube-apiserver.key"
    made, made_key = pki.issue_server(trusted.server, "k3s", names)
    paths.write(key, made_key)
    paths.write(certificate, made)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(trusted.client.certificate))
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_cert_chain(certificate, key)
    return context


def write_admin_kubeconfig(files: paths.Paths, settings: Settings, url: str, trusted: Authorities) -> Path:
    """The kubeconfig of system:admin at this server; returns its file."""
    certificate, key = files.tls / "client-admin.crt", files.tls / "client-admin.key"
    if not pki.lasts(certificate):
        made, made_key = pki.issue_client(trusted.client, "system:admin", identity.MASTERS)
        paths.write(key, made_key)
        paths.write(certificate, made)
    user = {
        "client-certificate-data": kubeconfig.encode(certificate.read_bytes()),
        "client-key-data": kubeconfig.encode(key.read_bytes()),
    }
    target = Path(settings.text("write-kubeconfig", str(files.kubeconfig)))
    mode = settings.number("write-kubeconfig-mode", "0600", base=8)
    paths.write(target, kubeconfig.compose(url, trusted.server.pem(), user), mode)
    return target


def _server_password(files: paths.Paths, settings: Settings, ca: bytes) -> str:
    kept, given = files.server / "token", _given(settings, "token", ca)
    if not kept.exists():
        password = given or secrets.token_hex(16)
        paths.write(kept, tokens.secure(f"server:{password}", ca) + "\n")
        return password
    password = tokens.parse(kept.read_text().strip()).password
    if given and given != password:
        raise StandInError("bootstrap data already found and encrypted with different token")
    return password


def _given(settings: Settings, name: str, ca: bytes) -> str:
    """The password of a token in the settings or in its file; the secure form must be of this CA."""
    text = settings.text(name)
    if settings.text(f"{name}-file"):
        text = agent.read_token_file(settings.text(f"{name}-file"))
        if not text:
            raise UsageError(f"The file of {name}-file is empty: write a token into it.")
    if not text:
        return ""
    token = tokens.parse(text)
    if token.bootstrap:
        raise UsageError(f"{name} must not be a bootstrap token.")
    if token.ca_hash:
        agent.check_hash(token, ca)
    return token.password


def _link(files: paths.Paths, name: str) -> None:
    link = files.server / name
    if not link.is_symlink():
        link.unlink(missing_ok=True)
        link.symlink_to("token")
