"""Certificate authorities and certificates, made by the openssl command."""

from __future__ import annotations

import ipaddress
import secrets
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import paths
from .errors import StandInError

CA_DAYS, LEAF_DAYS = 3650, 365  # as K3s: docs.k3s.io/cli/certificate
RENEW_SECONDS = 120 * 86400
CA_EXTENSIONS = (
    "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,digitalSignature,keyEncipherment,keyCertSign\n"
    "subjectKeyIdentifier=hash\n"
)
LEAF_EXTENSIONS = (
    "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
    "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
)


@dataclass(frozen=True)
class Authority:
    """A CA's files."""

    certificate: Path
    key: Path

    def pem(self) -> bytes:
        return self.certificate.read_bytes()


def authority(directory: Path, name: str, common_name: str) -> Authority:
    """The CA <name> in `directory`, made on the first call."""
    ca = Authority(directory / f"{name}.crt", directory / f"{name}.key")
    if not ca.certificate.exists():
        key = _new_key()
        paths.write(ca.key, key)
        paths.write(ca.certificate, _self_signed(key, common_name), 0o644)
    return ca


def issue_server(ca: Authority, common_name: str, names: Sequence[str]) -> tuple[bytes, bytes]:
    """A serving certificate for host names and IP addresses, and its key (PEM)."""
    alternative = ",".join(f"{'IP' if is_address(name) else 'DNS'}:{name}" for name in names)
    usage = f"extendedKeyUsage=serverAuth\nsubjectAltName={alternative}\n"
    return _issue(ca, f"/CN={common_name}", usage)


def issue_client(ca: Authority, common_name: str, organization: str) -> tuple[bytes, bytes]:
    """A client certificate for a Kubernetes user and group, and its key (PEM)."""
    return _issue(ca, f"/O={organization}/CN={common_name}", "extendedKeyUsage=clientAuth\n")


def lasts(certificate: Path) -> bool:
    """Whether the certificate exists and is not due for renewal."""
    command = ["openssl", "x509", "-in", str(certificate), "-noout", "-checkend", str(RENEW_SECONDS)]
    return certificate.exists() and subprocess.run(command, capture_output=True, check=False).returncode == 0


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _new_key() -> bytes:
    return _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")


def _self_signed(key: bytes, common_name: str) -> bytes:
    with _configuration(CA_EXTENSIONS) as config:
        return _openssl(
            "req", "-x509", "-new", "-key", "/dev/stdin", "-subj", f"/CN={common_name}", "-sha256",
            "-days", str(CA_DAYS), "-config", config.name, "-extensions", "extensions", given=key,
        )  # fmt: skip


def _issue(ca: Authority, subject: str, extensions: str) -> tuple[bytes, bytes]:
    key = _new_key()
    with _configuration(LEAF_EXTENSIONS + extensions) as config:
        request = _openssl(
            "req", "-new", "-key", "/dev/stdin", "-subj", subject, "-config", config.name, given=key
        )
        certificate = _openssl(
            "x509", "-req", "-in", "/dev/stdin", "-CA", str(ca.certificate), "-CAkey", str(ca.key), "-sha256",
            "-set_serial", f"0x{secrets.token_hex(8)}", "-days", str(LEAF_DAYS),
            "-extfile", config.name, "-extensions", "extensions", given=request,
        )  # fmt: skip
    return certificate, key


def _configuration(extensions: str) -> tempfile._TemporaryFileWrapper[str]:
    # Our own file, so that what the machine's openssl.cnf holds or lacks does not matter.
    file = tempfile.NamedTemporaryFile("w", suffix=".cnf")  # noqa: SIM115 - the caller closes it
    file.write(f"[req]\ndistinguished_name=name\nprompt=no\n[name]\n[extensions]\n{extensions}")
    file.flush()
    return file


def _openssl(*arguments: str, given: bytes = b"") -> bytes:
    try:
        done = subprocess.run(["openssl", *arguments], input=given, capture_output=True, check=False)
    except FileNotFoundError as exc:
        raise StandInError("The stand-in needs the openssl command: install the package openssl.") from exc
    if done.returncode != 0:
        raise StandInError(f"openssl {arguments[0]} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
